import RecCore
import Retrieval
import Testing

@testable import RecServer

@Suite struct ResolvedRequestTests {
    func resolve(_ text: String) throws(Problem) -> ResolvedRequest {
        let snapshot: Snapshot
        do { snapshot = try SmallBundle.loaded() } catch { throw Problem(.internalError, "\(error)") }
        return try ResolvedRequest(
            try RecommendRequest(body: Array(text.utf8)), snapshot, now: SmallBundle.now)
    }

    func problem(_ text: String) -> Problem? {
        do throws(Problem) {
            _ = try resolve(text)
            return nil
        } catch { return error }
    }

    @Test func `events of unknown items are counted and left out, unknown actions are entry 0`() throws {
        let resolved = try resolve(
            #"{"history":[{"item_id":"i1","action":"like"},{"item_id":"nope"},{"item_id":"i2","action":"buy"}],"history_offset":9,"session":[{"item_id":"gone"},{"item_id":"i3","timestamp":5}]}"#
        )
        #expect(resolved.unknownEvents == 2)
        #expect(
            resolved.query.history == [
                HistoryEvent(row: 1, action: 2), HistoryEvent(row: 2), HistoryEvent(row: 3, time: 5),
            ])
        #expect(resolved.query.historyOffset == 9)
        #expect(resolved.query.now == SmallBundle.now)
        #expect(try resolve(#"{"now":7}"#).query.now == 7)
    }

    @Test func `a known user's stored history is taken and the session comes after it`() throws {
        let resolved = try resolve(#"{"user_id":"u4","history_offset":50,"session":[{"item_id":"i39"}]}"#)
        let stored = SmallBundle.events(of: 4).map {
            HistoryEvent(row: $0.row, action: Int($0.action), time: $0.time)
        }
        #expect(resolved.query.userRow == 4)
        #expect(resolved.query.history == stored + [HistoryEvent(row: 39)])
        #expect(resolved.query.historyOffset == 0)
        #expect(try resolve(#"{"user_id":"u4","history":[]}"#).query.history.isEmpty)
    }

    @Test func `a request's own features win over the stored ones, which fill the rest`() throws {
        #expect(
            try resolve(#"{"user_id":"u1","user":{"age":90,"x":"y"}}"#).query.userFeatures == [
                "age": .number(90), "x": .string("y"), "hobbies": .strings(["golf"]),
            ])
        #expect(
            try resolve(#"{"user_id":"u0"}"#).query.userFeatures == [
                "age": .number(15), "hobbies": .strings(["chess"]),
            ])
        #expect(try resolve(#"{"user_id":"nobody","user":{"age":null}}"#).query.userFeatures.isEmpty)
    }

    @Test func `only a request that says nothing of its user is anonymous`() throws {
        for text in [
            "{}", #"{"user_id":"nobody"}"#, #"{"context":{"device":"tv"}}"#, #"{"query_items":["nope"]}"#,
            #"{"history":[{"item_id":"nope"}]}"#,
        ] { #expect(try resolve(text).isAnonymous, "\(text)") }
        for text in [
            #"{"user_id":"u0"}"#, #"{"user":{"age":3}}"#, #"{"query_items":["i1"]}"#,
            #"{"session":[{"item_id":"i1"}]}"#, #"{"candidates":[]}"#,
        ] { #expect(try !resolve(text).isAnonymous, "\(text)") }
    }

    static let history =
        #""history":[{"item_id":"i1","action":"like","timestamp":1000},{"item_id":"i2","action":"buy","timestamp":1900},{"item_id":"i3"},{"item_id":"i4","action":"view","timestamp":2500}],"now":2000"#

    @Test(
        arguments: [
            ("", [1, 2, 3, 4]), (#","exclude_seen":true"#, [1, 2, 3, 4]), (#","exclude_seen":false"#, []),
            (#","exclude_seen":{}"#, [1, 2, 3, 4]),
            (#","exclude_seen":{"actions":["like"]}"#, [1]),
            // An action the model does not know is still the caller's own; an event without one is "unknown".
            (#","exclude_seen":{"actions":["buy"]}"#, [2]),
            (#","exclude_seen":{"actions":["unknown"]}"#, [3]),
            (#","exclude_seen":{"actions":[]}"#, []),
            // An event without a time, or after now, is within any time.
            (#","exclude_seen":{"within_s":100}"#, [2, 3, 4]), (#","exclude_seen":{"within_s":0}"#, [3, 4]),
            (#","exclude_seen":{"within_s":1000}"#, [1, 2, 3, 4]),
            (#","exclude_seen":{"actions":["like","view"],"within_s":100}"#, [4]),
            (#","exclude_seen":false,"exclude":["i7","nope","i8"]"#, [7, 8]),
            (#","candidates":[]"#, []), (#","candidates":[],"exclude_seen":true"#, [1, 2, 3, 4]),
        ] as [(String, [Int])])
    func `seen items are left out by the rule`(rule: String, rows: [Int]) throws {
        #expect(try resolve("{\(Self.history)\(rule)}").excluded.sorted() == rows)
    }

    @Test func `stored events are left out by their action's name`() throws {
        let liked = SmallBundle.events(of: 7).filter { $0.action == 2 }.map(\.row)
        #expect(try resolve(#"{"user_id":"u7","exclude_seen":{"actions":["like"]}}"#).excluded == liked)
        #expect(!liked.isEmpty)
    }

    @Test func `query items are resolved, the unknown ones named, and a basket is not offered to itself`()
        throws
    {
        let resolved = try resolve(#"{"query_items":["i5","nope","i6"]}"#)
        #expect(resolved.queryItems == [5, 6] && resolved.unknownQueryItems == ["nope"])
        #expect(resolved.excluded == [5, 6])
        #expect(try resolve(#"{"query_items":["i5"],"exclude_seen":{"within_s":1}}"#).excluded == [5])
        #expect(try resolve(#"{"query_items":["i5"],"exclude_seen":false}"#).excluded.isEmpty)
    }

    @Test func `candidates lose the unknown, repeated, excluded and filtered ones, each counted`() throws {
        let resolved = try resolve(
            #"{"candidates":[{"item_id":"i3"},{"item_id":"x"},{"item_id":"i0","features":{"price":2}},{"item_id":"i3"},{"item_id":"i6"},{"item_id":"i1"},{"item_id":"i2"},{"item_id":"i6"}],"exclude":["i6"],"filter":{"field":"genres","in":["drama"]},"user_id":"u3"}"#
        )
        #expect(resolved.candidates?.map(\.row) == [3, 0])
        #expect(resolved.candidates?.map(\.features) == [[:], ["price": .number(2)]])
        #expect(resolved.unknownCandidates == ["x"])
        #expect(resolved.excludedCandidates == 1 && resolved.filteredCandidates == 2)
        #expect(resolved.count == 2)
    }

    @Test func `n defaults to 20, or to all of the candidates`() throws {
        #expect(try resolve("{}").count == 20)
        #expect(try resolve(#"{"n":3}"#).count == 3)
        #expect(try resolve(#"{"candidates":[{"item_id":"i1"},{"item_id":"i2"}],"n":1}"#).count == 1)
        #expect(try resolve(#"{"candidates":[]}"#).count == 0)
    }

    @Test func `fields that no item has are left out`() throws {
        #expect(try resolve(#"{"fields":["year","colour","title"]}"#).fields == ["year", "title"])
        #expect(try resolve("{}").fields == ["title"])
    }

    @Test(arguments: [
        (#"{"weights":{"buy":1}}"#, Problem.Kind.unknownTask, "/weights/buy"),
        (#"{"weights":{"a/b~c":1,"like":2}}"#, .unknownTask, "/weights/a~1b~0c"),
        (#"{"user":{"age":["1"]}}"#, .wrongType, "/user/age"),
        (#"{"context":{"device":["tv"]}}"#, .wrongType, "/context/device"),
        (
            #"{"candidates":[{"item_id":"i1"},{"item_id":"i2","features":{"price":[]}}]}"#, .wrongType,
            "/candidates/1/features/price"
        ),
        (
            #"{"candidates":[{"item_id":"i1"},{"item_id":"i2","features":{"year":1e300}}]}"#, .outOfRange,
            "/candidates/1/features/year"
        ),
        (#"{"placement":"none"}"#, .unknownPlacement, "/placement"),
        (#"{"filter":{"field":"colour","in":["x"]}}"#, .unknownFilterField, "/filter"),
        (#"{"filter":{"field":"title","in":["x"]}}"#, .unknownFilterField, "/filter"),
        (#"{"filter":{"field":"year","in":["x"]}}"#, .wrongType, "/filter"),
        (#"{"filter":{"field":"genres","gt":3}}"#, .wrongType, "/filter"),
    ])
    func `what the models refuse is refused up front with its pointer`(
        text: String, kind: Problem.Kind, pointer: String
    ) {
        #expect(problem(text)?.kind == kind)
        #expect(problem(text)?.errors.first?.pointer == pointer)
    }

    @Test func `arrays are taken where a feature pools or nothing reads them`() {
        for text in [
            #"{"user":{"hobbies":["chess","golf"],"whatever":["a"]}}"#,
            #"{"candidates":[{"item_id":"i1","features":{"genres":["war"]}}]}"#,
            #"{"context":{"age":["1"]},"weights":{"view":0,"like":-1}}"#,
        ] { #expect(problem(text) == nil) }
    }
}
