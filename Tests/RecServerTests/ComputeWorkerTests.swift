import HTTP
import JSON
import Testing
import Threading
import UserState

@testable import RecServer

@Suite final class ComputeWorkerTests {
    let service: RecommendService
    let worker: ComputeWorker

    deinit { worker.shadow.stop() }

    init() throws {
        let configuration = try Configuration(arguments: ["--batch-max", "8", "--deadline-ms", "10000"])
        let settings = PipelineSettings(configuration)
        service = try RecommendService(settings: settings, logger: SmallBundle.silentLogger)
        let bundle = LoadedBundle(
            try SmallBundle.loaded(), path: "small", threads: 1, settings: settings, metrics: service.metrics)
        try service.registry.publish(bundle, as: .default, share: nil, pinned: nil)
        worker = ComputeWorker(
            service: service, shadow: try Shadow(service.metrics.shadow, isBusy: { false }),
            waits: SequenceWaits(threads: 2))
    }

    func post(
        _ body: String, _ headers: [(String, String)] = [], type: String = "application/json",
        to other: ComputeWorker? = nil
    ) throws -> HTTPResponse {
        let answer = Lock<HTTPResponse?>(nil)
        let now = MonotonicClock.nanoseconds
        let request = HTTPRequest(
            method: "POST", path: "/recommend", headers: HTTPHeaders([("Content-Type", type)] + headers),
            body: Array(body.utf8), receivedAt: now)
        (other ?? worker).answer(
            Job(
                request: request, match: .recommend, context: RequestContext(requestID: "r1"),
                exchange: Exchange { response in answer.withLock { $0 = response } }, queuedAt: now))
        return try #require(answer.withLock { $0 })
    }

    func object(_ bytes: some Sequence<UInt8>) throws -> JSONObject {
        guard case .object(let object) = try JSONParser.parse(Array(bytes)) else {
            Issue.record("no object")
            return JSONObject([])
        }
        return object
    }

    func header(_ response: HTTPResponse, _ name: String) -> String? {
        response.headers.first { $0.0 == name }?.1
    }

    // MARK: - Batches

    @Test func `a batch has an answer or a problem for every line, in order`() throws {
        let lines = [
            #"{"user_id":"u3","n":2,"now":1}"#, "", "{", #"{"n":0}"#, #"{"model":"x"}"# + "\r",
            #"{"weights":{"buy":1}}"#, #"{"deadline_ms":1,"n":1}"#,
        ]
        let ndjson = "application/x-ndjson; charset=utf-8"
        for ending in ["", "\n"] {
            let response = try post(lines.joined(separator: "\n") + ending, type: ndjson)
            #expect(response.status == 200 && header(response, "Content-Type") == "application/x-ndjson")
            #expect(response.body.last == 0x0A)
            let answers = try response.body.split(separator: 0x0A).map { try object($0) }
            #expect(answers.count == lines.count)
            let kinds = answers.map { $0["type"] }
            let expected: [String?] = [
                nil, nil, "malformed-json", "out-of-range", "unknown-model", "unknown-task", nil,
            ]
            for (index, kind) in expected.enumerated() where index != 1 {
                #expect(kinds[index] == kind.map { .string("urn:recserver:problem:" + $0) })
                if kind != nil { #expect(answers[index]["line"] == .integer(Int64(index + 1))) }
            }
            // An empty line is no request, though an empty body is one.
            #expect(kinds[1] == .string("urn:recserver:problem:malformed-json"))
            #expect(answers[0]["model"] == .string("default") && answers[0]["line"] == nil)
        }
        #expect(
            service.metrics.batchLinesAnswered.value == 4 && service.metrics.batchLinesRefused.value == 10)
    }

    @Test func `a line gets what it gets alone`() throws {
        let bodies = [#"{"user_id":"u5","now":1}"#, #"{"now":1}"#, #"{"user_id":"u2","now":1,"n":3}"#]
        let batch = try post(bodies.joined(separator: "\n"), type: "application/x-ndjson").body
            .split(separator: 0x0A)
        for (line, body) in zip(batch, bodies) {
            #expect(try object(line)["items"] == object(post(body).body)["items"])
        }
    }

    @Test func `a batch has a largest size and may be empty`() throws {
        let ndjson = "application/x-ndjson"
        #expect(
            try post(Array(repeating: "{}", count: 8).joined(separator: "\n"), type: ndjson).status == 200)
        let many = try post(Array(repeating: "{}", count: 9).joined(separator: "\n"), type: ndjson)
        #expect(many.status == 400)
        let none = try post("", type: ndjson)
        #expect(none.status == 200 && none.body.isEmpty)
        #expect(try post("{}", type: "application/jsonl").status == 415)
    }

    // MARK: - Headers

    @Test func `the header's user is the body's where it has none`() throws {
        let user = [("X-User-Id", "u7")]
        func events(_ bytes: some Sequence<UInt8>) throws -> JSONValue? {
            guard case .object(let history)? = try object(bytes)["history"] else { return nil }
            return history["events"]
        }
        #expect(try events(post("{}", user).body) == .integer(7))
        #expect(try events(post("", user).body) == .integer(7))
        #expect(try events(post(#"{"user_id":"u7"}"#, user).body) == .integer(7))
        #expect(try post(#"{"user_id":"u6"}"#, user).status == 400)
        let lines = try post(
            #"{"n":1}"# + "\n" + #"{"user_id":"u6"}"# + "\n" + #"{"user_id":"u7"}"#, user,
            type: "application/x-ndjson"
        ).body.split(separator: 0x0A)
        #expect(try events(lines[0]) == .integer(7) && events(lines[2]) == .integer(7))
        #expect(try object(lines[1])["status"] == .integer(400))
        for bad in ["", String(repeating: "x", count: 129), "\u{FFFD}"] {
            #expect(try post("{}", [("X-User-Id", bad)]).status == 400)
        }
        #expect(try post("{}", [("X-User-Id", "u1"), ("x-user-id", "u1")]).status == 200)
        #expect(try post("{}", [("X-User-Id", "u1"), ("X-User-Id", "u2")]).status == 400)
    }

    @Test func `a lenient preference is heeded and said to be`() throws {
        #expect(try post(#"{"x":1}"#).status == 400)
        let lenient = try post(#"{"x":1}"#, [("prefer", "respond-async, Handling=\"lenient\"; a=b")])
        #expect(lenient.status == 200 && header(lenient, "Preference-Applied") == "handling=lenient")
        #expect(try header(post("{}"), "Preference-Applied") == nil)
        let strict = try post(#"{"x":1}"#, [("Prefer", "handling=strict"), ("Prefer", "handling=lenient")])
        #expect(strict.status == 400)
        let batch = try post(
            "{\"x\":1}\n{\"y\":2}", [("Prefer", "handling=lenient")], type: "application/x-ndjson")
        #expect(header(batch, "Preference-Applied") == "handling=lenient")
        for line in batch.body.split(separator: 0x0A) { #expect(try object(line)["items"] != nil) }
    }

    @Test(arguments: [
        ("handling=lenient", "lenient"), ("a, handling = lenient", "lenient"), ("HANDLING=x", "x"),
        ("handling", ""), ("handling=\"a\\\"b,c\"", "a\"b,c"), ("handling=a, handling=b", "a"),
        ("x=\"handling=b\", handling=c", "c"), ("x; y=\",handling=b\", handling=c", "c"),
        ("handling;p=1", ""), (",,handling=a", "a"), ("@@, handling=a", "a"), ("handling=\"open", "open"),
    ])
    func `preferences are read by their grammar`(list: String, value: String) {
        #expect(RequestHeaders.preference("handling", in: list) == value)
    }

    @Test(arguments: [
        "", "respond-async", "x=handling", "handlingx=lenient", "\"handling=lenient\"", "\"\\", "=",
    ])
    func `what is not a preference is none`(list: String) {
        #expect(RequestHeaders.preference("handling", in: list) == nil)
    }

    // MARK: - Answers

    @Test func `problems say how long the request took, too`() throws {
        let timing = try #require(try header(post(#"{"n":0}"#), "Server-Timing"))
        #expect(timing.hasPrefix("queue;dur="))
    }

    @Test func `model, placement and variant are told`() throws {
        let answer = try object(post(#"{"model":"default","variant":"b"}"#).body)
        #expect(answer["model"] == .string("default") && answer["variant"] == .string("b"))
        #expect(answer["placement"] == nil)
        #expect(try object(post("{}").body)["variant"] == nil)
        let unknown = try post(#"{"model":"other"}"#)
        #expect(unknown.status == 422)
    }
}

// MARK: - Cursors

extension ComputeWorkerTests {
    private func ids(_ answer: JSONObject) -> [String] {
        guard case .array(let items)? = answer["items"] else { return [] }
        return items.compactMap {
            if case .object(let item) = $0, case .string(let id)? = item["item_id"] { id } else { nil }
        }
    }

    @Test(arguments: [
        #"{"now":1}"#, #"{"user_id":"u5","now":1,"n":7}"#, #"{"user_id":"u2","diversity":0.5,"n":3}"#,
        #"{"candidates":[{"item_id":"i3"},{"item_id":"i9"},{"item_id":"i4"}],"n":1}"#,
    ])
    func `cursors lead through the whole slate`(body: String) throws {
        let first = try object(post(body).body)
        var (answer, all) = (first, ids(first))
        while case .string(let cursor)? = answer["next_cursor"] {
            answer = try object(post(#"{"cursor":"\#(cursor)"}"#).body)
            #expect(!ids(answer).isEmpty && ids(answer).count <= max(ids(first).count, 1))
            all += ids(answer)
            for name in ["recommendation_id", "model_version", "score_kind", "history", "degraded", "model"] {
                #expect(answer[name] == first[name])
            }
            #expect(answer["dropped"] == .integer(0) && answer["short"] == .boolean(false))
        }
        #expect(answer["next_cursor"] == .null && Set(all).count == all.count)
        #expect(all.count == (body.contains("candidates") ? 3 : body.contains("user_id") ? 30 : 40))
    }

    @Test func `what the user did since is left out and counted`() throws {
        let folder = try TemporaryFolder()
        let users = try UserStates(directory: folder.path)
        defer { users.stop() }
        let service = try RecommendService(
            settings: service.settings, users: users, logger: SmallBundle.silentLogger)
        let bundle = try #require(self.service.registry.assignment(.default)).bundle
        try service.registry.publish(bundle, as: .default, share: nil, pinned: nil)
        let worker = ComputeWorker(
            service: service, shadow: worker.shadow, waits: SequenceWaits(threads: 2))
        let first = try object(
            post(
                #"{"user_id":"n","n":10,"candidates":[\#(RecommendPipelineTests.candidates)],"exclude_seen":true}"#,
                to: worker
            ).body)
        let begun = ids(first)
        guard case .string(let cursor)? = first["next_cursor"] else { return #expect(Bool(false)) }
        let before = try ids(object(post(#"{"cursor":"\#(cursor)"}"#, to: worker).body))
        let consumed = [before[0], before[4], begun[0]]
        let isStored = Latch(count: 1)
        let events = consumed.map { ("n", StoredEvent(itemID: $0, time: 5, eventID: $0)) }
        #expect(users.submit(.append(events)) { _ in isStored.countDown() })
        #expect(isStored.wait(within: .seconds(60)))
        let after = try object(post(#"{"cursor":"\#(cursor)"}"#, to: worker).body)
        #expect(Array(ids(after).prefix(8)) == before.filter { !consumed.contains($0) })
        #expect(ids(after).count == 10 && after["dropped"] == .integer(2))
        #expect(service.slates.counters.dropped.value == 2)
    }

    @Test func `a cursor goes with n alone`() throws {
        guard case .string(let cursor)? = try object(post(#"{"n":5}"#).body)["next_cursor"] else {
            return #expect(Bool(false))
        }
        func kind(_ more: String, _ headers: [(String, String)] = []) throws -> JSONValue? {
            try object(post(#"{"cursor":"\#(cursor)"\#(more)}"#, headers).body)["type"]
        }
        let with = JSONValue.string("urn:recserver:problem:cursor-with-fields")
        for more in [
            #","user_id":"u1""#, #","deadline_ms":10"#, #","filter":{"all":[]}"#, #","explain":false"#,
        ] {
            #expect(try kind(more) == with)
            #expect(try kind(more, [("Prefer", "handling=lenient")]) == with)
        }
        #expect(try kind(#","n":2,"filter":null"#) == nil)
        #expect(try kind("", [("X-User-Id", "u1")]) == .string("urn:recserver:problem:cursor-expired"))
        #expect(try kind(#","n":501"#) == .string("urn:recserver:problem:out-of-range"))
        #expect(try post(#"{"cursor":"x"}"#).status == 410)
        #expect(try post(#"{"cursor":1}"#).status == 400)
        let lines = try post(
            #"{"cursor":"\#(cursor)","n":2}"# + "\n" + #"{"cursor":"?"}"#, type: "application/x-ndjson"
        )
        .body.split(separator: 0x0A)
        #expect(try ids(object(lines[0])).count == 2 && object(lines[1])["status"] == .integer(410))
    }
}
