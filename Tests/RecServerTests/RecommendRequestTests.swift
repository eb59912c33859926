import RecCore
import Testing

@testable import RecServer

@Suite struct RecommendRequestTests {
    func decode(_ text: String) throws(Problem) -> RecommendRequest {
        try RecommendRequest(body: Array(text.utf8))
    }

    func problem(_ text: String) -> Problem? {
        do throws(Problem) {
            _ = try decode(text)
            return nil
        } catch { return error }
    }

    @Test func `every field is read`() throws {
        let request = try decode(
            """
            {"user_id":"u","history":[{"item_id":"a","action":"like","timestamp":1.5},{"item_id":"b"}],"history_offset":7,
             "session":[{"item_id":"c"}],
             "now":100,"user":{"age":30,"tags":["x","y"],"pro":true,"none":null},"context":{"device":"tv"},
             "candidates":[{"item_id":"d","features":{"price":2.5}}],
             "query_items":["e"],"n":3,"fields":["title","year"],"exclude":["f"],"exclude_seen":{"actions":["like"],"within_s":60},
             "filter":{"all":[{"field":"genres","in":["Drama",7,true]},{"not":{"field":"year","gte":1990,"lt":2000}}]},
             "placement":"home","model":"canary","variant":"b-2","weights":{"like":2},"diversity":0.5,"deadline_ms":50,"degrade":"never","explain":true}
            """)
        #expect(
            request.userID == "u" && request.history?.count == 2 && request.historyOffset == 7
                && request.session.count == 1)
        #expect(
            request.userFeatures == [
                "age": .number(30), "tags": .strings(["x", "y"]), "pro": .boolean(true),
            ])
        #expect(request.contextFeatures == ["device": .string("tv")])
        #expect(request.candidates?.first?.features == ["price": .number(2.5)])
        #expect(
            request.count == 3 && request.fields == ["title", "year"] && request.exclude == ["f"]
                && request.queryItems == ["e"])
        #expect(
            request.filter
                == .all([
                    .isIn(field: "genres", values: [.string("Drama"), .number(7), .boolean(true)]),
                    .not(
                        .range(
                            field: "year", greaterOrEqual: 1990, greater: nil, lessOrEqual: nil, less: 2000)),
                ]))
        #expect(
            request.weights == ["like": 2] && request.diversity == 0.5 && request.deadlineMilliseconds == 50)
        #expect(!request.mayDegrade && request.explain)
        #expect(request.placement == "home" && request.model == "canary" && request.variant == "b-2")
        guard case .matching(let actions, let within) = request.excludeSeen else {
            Issue.record("exclude_seen"); return
        }
        #expect(actions == ["like"] && within == 60)
    }

    @Test func `an empty body and an empty object ask for the popular list`() throws {
        for text in ["", "{}", " {} "] {
            let request = try decode(text)
            #expect(
                request.userID == nil && request.history == nil && request.mayDegrade
                    && request.fields == ["title"])
        }
    }

    @Test func `unknown fields are all named`() {
        let problem = problem(#"{"usr_id":"x","n":3,"a/b":1}"#)
        #expect(problem?.kind == .unknownField)
        #expect(problem?.errors.map(\.pointer) == ["/usr_id", "/a~1b"])
    }

    @Test(arguments: [
        (#"{"n":0}"#, Problem.Kind.outOfRange, "/n"), (#"{"n":501}"#, .outOfRange, "/n"),
        (#"{"n":"3"}"#, .wrongType, "/n"), (#"{"n":3.5}"#, .wrongType, "/n"),
        (#"{"user_id":5}"#, .wrongType, "/user_id"), (#"{"user_id":""}"#, .outOfRange, "/user_id"),
        (#"{"history":{}}"#, .wrongType, "/history"),
        (#"{"history":[5]}"#, .wrongType, "/history/0"),
        (#"{"history":[{}]}"#, .outOfRange, "/history/0/item_id"),
        (#"{"history":[{"item_id":"a","x":1}]}"#, .unknownField, "/history/0/x"),
        (#"{"user":{"a":{}}}"#, .wrongType, "/user/a"),
        (#"{"user":{"a":[1]}}"#, .wrongType, "/user/a/0"), (#"{"diversity":2}"#, .outOfRange, "/diversity"),
        (#"{"degrade":"maybe"}"#, .outOfRange, "/degrade"),
        (#"{"filter":{}}"#, .outOfRange, "/filter"), (#"{"filter":{"field":"a"}}"#, .outOfRange, "/filter"),
        (#"{"filter":{"field":"a","in":[1],"gte":2}}"#, .unknownField, "/filter/gte"),
        (#"{"explain":1}"#, .wrongType, "/explain"),
        (#"{"deadline_ms":0}"#, .outOfRange, "/deadline_ms"), (#"{"now":1e12}"#, .outOfRange, "/now"),
        (#"{"placement":7}"#, .wrongType, "/placement"), (#"{"placement":""}"#, .outOfRange, "/placement"),
        (#"{"model":"a b"}"#, .outOfRange, "/model"), (#"{"model":1}"#, .wrongType, "/model"),
        (#"{"variant":"ü"}"#, .outOfRange, "/variant"), (#"{"variant":""}"#, .outOfRange, "/variant"),
        (#"{"history_offset":-1}"#, .outOfRange, "/history_offset"),
        (#"{"history_offset":1.5}"#, .wrongType, "/history_offset"),
        (#"[]"#, .wrongType, ""), (#"3"#, .wrongType, ""),
    ])
    func `a wrong field is refused with its pointer`(text: String, kind: Problem.Kind, pointer: String) {
        let problem = problem(text)
        #expect(problem?.kind == kind)
        #expect(problem?.errors.first?.pointer == pointer)
    }

    @Test func `a lenient reading ignores unknown fields at any depth, and nothing else`() throws {
        func lenient(_ text: String) throws(Problem) -> RecommendRequest {
            try RecommendRequest(body: Array(text.utf8), isLenient: true)
        }
        let request = try lenient(
            #"{"x":1,"n":3,"history":[{"item_id":"a","rating":5}],"session":[{"item_id":"b","y":[]}],"candidates":[{"item_id":"c","z":{}}],"exclude_seen":{"actions":["like"],"q":1},"filter":{"not":{"field":"g","in":[1],"note":"x"},"why":1}}"#
        )
        #expect(request.count == 3 && request.history?.first?.itemID == "a" && request.session.count == 1)
        #expect(request.candidates?.first?.itemID == "c")
        #expect(request.filter == .not(.isIn(field: "g", values: [.number(1)])))
        for (text, kind, pointer) in [
            (#"{"x":1,"n":"3"}"#, Problem.Kind.wrongType, "/n"),
            (#"{"history":[{"x":1}]}"#, .outOfRange, "/history/0/item_id"),
            // Which of two conditions is meant cannot be told.
            (#"{"filter":{"field":"a","in":[1],"gte":2}}"#, .unknownField, "/filter/gte"),
            (#"{"filter":{"all":[],"any":[]}}"#, .unknownField, "/filter/any"),
        ] {
            do throws(Problem) {
                _ = try lenient(text)
                Issue.record("\(text) was taken")
            } catch {
                #expect(error.kind == kind && error.errors.first?.pointer == pointer)
            }
        }
    }

    @Test func `each list is taken at its limit and refused one above`() {
        func list(_ element: String, _ count: Int) -> String {
            "[" + Array(repeating: element, count: count).joined(separator: ",") + "]"
        }
        for (name, element, limit) in [
            ("history", #"{"item_id":"a"}"#, 4096), ("session", #"{"item_id":"a"}"#, 256),
            ("candidates", #"{"item_id":"a"}"#, 10_000), ("exclude", "\"a\"", 10_000),
            ("query_items", "\"a\"", 256), ("fields", "\"a\"", 64),
        ] {
            #expect(problem("{\"\(name)\":\(list(element, limit))}") == nil)
            #expect(problem("{\"\(name)\":\(list(element, limit + 1))}")?.kind == .outOfRange)
        }
    }

    @Test func `a filter is taken at its depth and size limits and refused beyond`() {
        func nested(_ depth: Int) -> String {
            String(repeating: "{\"not\":", count: depth - 1) + #"{"field":"a","in":[1]}"#
                + String(repeating: "}", count: depth - 1)
        }
        #expect(problem("{\"filter\":\(nested(8))}") == nil)
        #expect(problem("{\"filter\":\(nested(9))}")?.kind == .outOfRange)
        func wide(_ count: Int) -> String {
            #"{"any":[{"all":["#
                + Array(repeating: #"{"field":"a","in":[1]}"#, count: count / 2).joined(separator: ",")
                + #"]},{"all":["#
                + Array(repeating: #"{"field":"a","in":[1]}"#, count: count - count / 2).joined(
                    separator: ",") + "]}]}"
        }
        #expect(problem("{\"filter\":\(wide(64))}") == nil)
        #expect(problem("{\"filter\":\(wide(65))}")?.kind == .outOfRange)
    }

    @Test func `no mutation of a request crashes the decoder`() throws {
        let text = Array(
            #"{"user_id":"u","history":[{"item_id":"a","timestamp":1e3}],"filter":{"any":[{"field":"g","in":["D",1]}]},"n":5,"user":{"x":[]}}"#
                .utf8)
        for position in text.indices {
            for byte in [UInt8(0), 0x22, 0x2C, 0x5B, 0x5D, 0x7B, 0x7D, 0x31, 0x2D, 0x65, 0x80, 0xFF] {
                var mutated = text
                mutated[position] = byte
                _ = try? RecommendRequest(body: mutated)
            }
        }
    }
}
