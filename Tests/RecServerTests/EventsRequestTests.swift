import HTTP
import JSON
import RecCore
import TestSupport
import Testing
import UserState

@testable import RecServer

@Suite struct EventsRequestTests {
    static let ndjson = "application/x-ndjson"
    static let now = 1_700_000_000.0

    func read(
        _ body: String, type: String = "application/json", headers: [(String, String)] = [],
        maximum: Int = 100, accepts: @escaping (String) -> Bool = { _ in true }
    ) throws(Problem) -> EventsRequest {
        let all = HTTPHeaders([("Content-Type", type)] + headers)
        return try EventsRequest(
            HTTPRequest(method: "POST", path: "/events", headers: all, body: Array(body.utf8)),
            .init(
                headers: RequestHeaders(all), maximum: maximum, now: Self.now, accepts: accepts,
                newID: { "made" }))
    }

    func problem(_ member: EventsRequest.Member) -> Problem? {
        if case .refused(let problem, _, _) = member { problem } else { nil }
    }

    func whole(_ body: String, type: String = "application/json", maximum: Int = 100) -> Problem? {
        do throws(Problem) {
            _ = try read(body, type: type, maximum: maximum)
            return nil
        } catch {
            return error
        }
    }

    @Test func `whatever a body is, each of its members is an event within the limits or refused`() throws {
        let one =
            #"{"user_id":"ü","item_id":"i\u0041","action":"buy","timestamp":1699999999.5,"event_id":"e","#
            + #""value":-2e3,"recommendation_id":"r","position":0}"#
        let seeds = [
            (one, "application/json"), ("[\(one),\(one),{}]", "application/json"), ("[]", "application/json"),
            (one + "\n" + one + "\n{\n", Self.ndjson),
        ]
        var random = SeededRandom(17)
        var (kept, refused) = (0, 0)
        let ids = RecommendRequest.Limits.idBytes
        for (seed, type) in seeds {
            for _ in 0..<3000 {
                let body = Array(seed.utf8).mutated(using: &random)
                let all = HTTPHeaders([("Content-Type", type)])
                let request: EventsRequest
                do throws(Problem) {
                    request = try EventsRequest(
                        HTTPRequest(method: "POST", path: "/events", headers: all, body: body),
                        .init(
                            headers: RequestHeaders(all), maximum: 4, now: Self.now, accepts: { _ in true },
                            newID: { "made" }))
                } catch {
                    #expect((400..<500).contains(error.kind.status), "\(body)")
                    refused += 1
                    continue
                }
                #expect(request.members.count <= 4)
                for case .event(let user, let event) in request.members {
                    kept += 1
                    #expect(ids.contains(user.utf8.count) && ids.contains(event.itemID.utf8.count), "\(body)")
                    #expect(ids.contains(event.eventID.utf8.count), "\(body)")
                    #expect(event.time.isFinite && event.time <= Self.now + EventsRequest.Limits.ahead)
                    #expect(event.value?.isFinite ?? true)
                    // What is kept can be exported and imported.
                    let record = StateRecord.event(user: user, event)
                    #expect(try StateRecord(line: Array(record.line.dropLast())) == record, "\(body)")
                }
            }
        }
        #expect(kept > 1000 && refused > 1000)
    }

    @Test func `every field is read, and what is not said has its default`() throws {
        let full = try read(
            #"{"user_id":"u","item_id":"i","action":"buy","timestamp":5.5,"event_id":"e","#
                + #""value":-2,"recommendation_id":"r","position":0}"#
        )
        #expect(full.isSingle && full.members.count == 1)
        guard case .event("u", let event) = full.members[0] else {
            Issue.record("refused")
            return
        }
        #expect(
            event
                == StoredEvent(
                    itemID: "i", action: "buy", time: 5.5, eventID: "e", value: -2, recommendationID: "r",
                    position: 0))
        guard
            case .event("u", let least) = try read(#"{"user_id":"u","item_id":"i","value":null}"#).members[0]
        else {
            Issue.record("refused")
            return
        }
        #expect(least == StoredEvent(itemID: "i", time: Self.now, eventID: "made"))
    }

    @Test(
        arguments: [
            (#"{"item_id":"i"}"#, Problem.Kind.outOfRange, "/user_id"),
            (#"{"user_id":"u"}"#, .outOfRange, "/item_id"),
            (#"{"user_id":"","item_id":"i"}"#, .outOfRange, "/user_id"),
            (#"{"user_id":7,"item_id":"i"}"#, .wrongType, "/user_id"),
            (#"{"user_id":"u","item_id":["i"]}"#, .wrongType, "/item_id"),
            (#"{"user_id":"u","item_id":"i","action":""}"#, .outOfRange, "/action"),
            (#"{"user_id":"u","item_id":"i","timestamp":1e12}"#, .outOfRange, "/timestamp"),
            (#"{"user_id":"u","item_id":"i","timestamp":"5"}"#, .wrongType, "/timestamp"),
            (#"{"user_id":"u","item_id":"i","timestamp":1700000300.5}"#, .tooNew, "/timestamp"),
            (#"{"user_id":"u","item_id":"i","event_id":""}"#, .outOfRange, "/event_id"),
            (#"{"user_id":"u","item_id":"i","value":true}"#, .wrongType, "/value"),
            (#"{"user_id":"u","item_id":"i","position":-1}"#, .outOfRange, "/position"),
            (#"{"user_id":"u","item_id":"i","position":10001}"#, .outOfRange, "/position"),
            (#"{"user_id":"u","item_id":"i","position":1.5}"#, .wrongType, "/position"),
            (#"{"user_id":"u","item_id":"i","recommendation_id":""}"#, .outOfRange, "/recommendation_id"),
            (#"{"user_id":"u","item_id":"i","a/b":1}"#, .unknownField, "/a~1b"),
            ("7", .wrongType, ""), ("null", .wrongType, ""), (#""x""#, .wrongType, ""),
        ] as [(String, Problem.Kind, String)])
    func `what is wrong with an event is told with its place, alone and in a list`(
        body: String, kind: Problem.Kind, pointer: String
    ) throws {
        let alone = try read(body)
        #expect(alone.isSingle)
        let good = #"{"user_id":"u","item_id":"i"}"#
        let list = try read("[\(good),\(body),\(good)]")
        let lines = try read("\(good)\n\(body)\r\n\(good)\n", type: Self.ndjson)
        for (members, index, prefix) in [
            (alone.members, 0, ""), (list.members, 1, "/1"), (lines.members, 1, ""),
        ] {
            let found = problem(members[index])
            #expect(found?.kind == kind && found?.errors.map(\.pointer) == [prefix + pointer])
            #expect(members.count { problem($0) == nil } == (members.count == 3 ? 2 : 0))
        }
        guard case .refused(_, line: 2, _) = lines.members[1] else {
            Issue.record("no line")
            return
        }
    }

    @Test func `a refused event keeps its id where it has one`() throws {
        for (id, expected) in [("\"e\"", "e"), ("7", nil), ("\"\"", nil)] as [(String, String?)] {
            guard case .refused(_, _, let found) = try read(#"{"event_id":\#(id)}"#).members[0] else {
                Issue.record("kept")
                return
            }
            #expect(found == expected)
        }
    }

    @Test func `lines are split at line feeds alone and the last one ends none`() throws {
        let event = #"{"user_id":"u","item_id":"i"}"#
        for (body, count, wrong) in [
            (event, 1, []), (event + "\n", 1, []), (event + "\n" + event, 2, []), ("\n", 1, [0]),
            ("\n" + event, 2, [0]), (event + "\n\n" + event + "\n\n", 4, [1, 3]),
            (event + "\r\n" + event + "\r", 2, []), (event + "\r" + event, 1, [0]),
            (event + event, 1, [0]), ("[\(event)]", 1, [0]), ("{\n}", 2, [0, 1]),
        ] as [(String, Int, [Int])] {
            let members = try read(body, type: Self.ndjson).members
            #expect(members.count == count, "\(body.debugDescription)")
            #expect(members.indices.filter { problem(members[$0]) != nil } == wrong)
        }
    }

    @Test func `one line alone is a list, and so is an empty array`() throws {
        #expect(try !read(#"{"user_id":"u","item_id":"i"}"#, type: Self.ndjson).isSingle)
        let none = try read("[]")
        #expect(!none.isSingle && none.members.isEmpty)
    }

    @Test func `a body that is no JSON, or too long, is refused whole`() {
        for body in ["", "{", "[{},]", "[{\"a\":1,\"a\":2}]", "\u{FEFF}{}", "[1] x"] {
            #expect(whole(body)?.kind == .malformedJSON, "\(body)")
        }
        #expect(whole("", type: Self.ndjson)?.kind == .malformedJSON)
        #expect(whole("[1,2,3]", maximum: 2)?.kind == .outOfRange && whole("[1,2]", maximum: 2) == nil)
        #expect(whole("1\n2\n3", type: Self.ndjson, maximum: 2)?.kind == .outOfRange)
        #expect(whole("1\n2\n", type: Self.ndjson, maximum: 2) == nil)
        for type in ["text/plain", "", "application/jsonl"] {
            #expect(whole("{}", type: type)?.kind == .unsupportedMediaType)
        }
    }

    @Test func `a duplicate name spoils its line alone`() throws {
        let event = #"{"user_id":"u","item_id":"i"}"#
        let members = try read(
            event + "\n" + #"{"user_id":"u","user_id":"v","item_id":"i"}"# + "\n" + event, type: Self.ndjson
        ).members
        #expect(members.map { problem($0)?.kind } == [nil, .malformedJSON, nil])
    }

    @Test func `the header's user is the event's where it has none and must agree`() throws {
        let user = [("X-User-Id", "u")]
        let members = try read(
            #"[{"item_id":"i"},{"user_id":"u","item_id":"i"},{"user_id":"v","item_id":"i"}]"#, headers: user
        ).members
        #expect(members.map { problem($0)?.kind } == [nil, nil, .badRequest])
        #expect(problem(members[2])?.errors.map(\.pointer) == ["/2/user_id"])
        for member in members.prefix(2) {
            guard case .event("u", _) = member else {
                Issue.record("not u's")
                return
            }
        }
    }

    @Test func `fields that no event has are ignored when asked to`() throws {
        let body = #"{"user_id":"u","item_id":"i","page":3}"#
        #expect(try problem(read(body).members[0])?.kind == .unknownField)
        let lenient = try read(body, headers: [("Prefer", "handling=lenient")])
        #expect(problem(lenient.members[0]) == nil)
    }

    @Test func `an item that the catalogue does not have is refused where it must have it`() throws {
        let body = #"[{"user_id":"u","item_id":"i"},{"user_id":"u","item_id":"j"}]"#
        let members = try read(body, accepts: { $0 == "i" }).members
        #expect(members.map { problem($0)?.kind } == [nil, .unknownItem])
        #expect(problem(members[1])?.errors.map(\.pointer) == ["/1/item_id"])
    }

    @Test func `no bytes trap`() {
        var random = SeededRandom(5)
        let seed = Array(#"[{"user_id":"u","item_id":"i","timestamp":1.5,"position":3}]"#.utf8) + [0x0A]
        for _ in 0..<20_000 {
            var bytes = seed
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &random)], at: place)
                default: if bytes.count > 1 { bytes.remove(at: place) }
                }
            }
            for type in ["application/json", Self.ndjson] {
                let headers = HTTPHeaders([("Content-Type", type)])
                let request = HTTPRequest(method: "POST", path: "/events", headers: headers, body: bytes)
                guard let plain = try? RequestHeaders(headers) else { return }
                let found = try? EventsRequest(
                    request,
                    .init(
                        headers: plain, maximum: 10, now: Self.now, accepts: { _ in true }, newID: { "made" })
                )
                #expect(found?.members.count ?? 0 <= 10)
            }
        }
    }
}

@Suite struct EventsAnswerTests {
    @Test func `results stand in the order of the events, with refused ones in their places`() throws {
        let event = StoredEvent(itemID: "i", time: 0, eventID: "e")
        let answer = EventsAnswer(
            [
                .refused(Problem(.wrongType), line: 1, eventID: nil), .event(user: "u", event),
                .event(user: "u", event), .refused(Problem(.tooNew), line: 4, eventID: "x"),
                .event(user: "v", event), .event(user: "v", event),
            ],
            [
                .stored(sequence: 3), .duplicate(sequence: 3), .refused(.noConsent), .refused(.tooOld),
            ], commit: 9, epoch: 7)
        #expect(answer.stored == 1 && answer.duplicates == 1 && answer.refused == 4)
        #expect(answer.onlyProblem == nil)
        guard case .object(let object) = try JSONParser.parse(answer.encoded(requestID: "r")),
            case .array(let results)? = object["results"], case .string(let token)? = object["token"]
        else {
            Issue.record("no results")
            return
        }
        #expect(SequenceToken(token) == SequenceToken(epoch: 7, place: .commit(9)))
        let statuses = results.map { value in
            if case .object(let result) = value, case .string(let status)? = result["status"] {
                status
            } else {
                ""
            }
        }
        #expect(statuses == ["refused", "stored", "duplicate", "refused", "refused", "refused"])
        guard case .object(let stored) = results[1], case .string(let sequence)? = stored["sequence"] else {
            Issue.record("no sequence")
            return
        }
        #expect(SequenceToken(sequence) == SequenceToken(epoch: 7, user: "u", sequence: 3))
    }

    @Test func `of one refused event the problem is told`() {
        let event = StoredEvent(itemID: "i", time: 0, eventID: "e")
        let answer = EventsAnswer([.event(user: "u", event)], [.refused(.noConsent)], commit: 1, epoch: 0)
        #expect(answer.onlyProblem?.kind == .noConsent)
    }
}
