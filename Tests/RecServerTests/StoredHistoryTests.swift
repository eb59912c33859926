import Ranking
import RecCore
import TestSupport
import Testing
import Threading
import UserState

@testable import RecServer

/// What is kept of users, as the models see it.
@Suite struct StoredHistoryTests {
    static func event(_ number: Int, item: String? = nil, action: String? = "view") -> StoredEvent {
        StoredEvent(
            itemID: item ?? "i\(number * 7 % SmallBundle.items)", action: action,
            time: SmallBundle.now - 1e6 + 10 * Double(number), eventID: "e\(number)")
    }

    func resolve(_ text: String, _ stored: StoredUser?) throws -> ResolvedRequest {
        try ResolvedRequest(
            try RecommendRequest(body: Array(text.utf8)), try SmallBundle.loaded(), stored: stored,
            now: SmallBundle.now)
    }

    // MARK: - Whose word counts

    @Test func `kept events take the place of the bundle's, the request's own of both`() throws {
        let stored = StoredUser(
            id: "u4", total: 9,
            events: [
                Self.event(1, action: "like"), Self.event(2, item: "gone"), Self.event(3, action: "buy"),
            ])
        var resolved = try resolve(#"{"user_id":"u4","session":[{"item_id":"i39"}]}"#, stored)
        #expect(resolved.query.history.map(\.row) == [7, 21, 39])
        #expect(resolved.query.history.map(\.action) == [2, 0, 0])
        #expect(resolved.query.sessionCount == 1 && resolved.unknownEvents == 1)
        #expect(resolved.query.userRow == 4 && resolved.query.userID == "u4")
        #expect(resolved.query.historyOffset == 6)
        resolved = try resolve(#"{"user_id":"u4","history":[{"item_id":"i2"}]}"#, stored)
        #expect(resolved.query.history.map(\.row) == [2] && resolved.query.historyOffset == 0)
        resolved = try resolve(#"{"user_id":"u4"}"#, nil)
        #expect(resolved.query.history.count == 4)
    }

    @Test func `features of the request come before the kept ones, and those before the bundle's`() throws {
        let stored = StoredUser(
            id: "u1", features: ["age": .number(33), "hobbies": .strings(["chess"]), "x": .number(1)])
        #expect(
            try resolve(#"{"user_id":"u1","user":{"x":"own"}}"#, stored).query.userFeatures == [
                "age": .number(33), "hobbies": .strings(["chess"]), "x": .string("own"),
            ])
        // What this version cannot encode was another's: it counts as missing, and the bundle's is used.
        let odd = StoredUser(id: "u1", features: ["age": .strings(["a", "b"])])
        #expect(try resolve(#"{"user_id":"u1"}"#, odd).query.userFeatures["age"] == .number(20))
    }

    @Test func `without consent nothing is used but the request itself, and no key is known`() throws {
        let stored = StoredUser(
            id: "u4", total: 1, events: [Self.event(1)], features: ["age": .number(9)], hasConsent: false)
        var resolved = try resolve(#"{"user_id":"u4"}"#, stored)
        #expect(resolved.isAnonymous && resolved.query.userID == nil && resolved.excluded.isEmpty)
        resolved = try resolve(
            #"{"user_id":"u4","history":[{"item_id":"i2"}],"user":{"age":5},"session":[{"item_id":"i3"}]}"#,
            stored)
        #expect(resolved.query.history.map(\.row) == [2, 3] && resolved.query.userID == nil)
        #expect(resolved.query.userFeatures == ["age": .number(5)] && resolved.query.userRow == nil)
    }

    @Test func `of an erased user the bundle's row, features and history are not used`() throws {
        var stored = StoredUser(id: "u4", isErased: true)
        #expect(try resolve(#"{"user_id":"u4"}"#, stored).isAnonymous)
        stored.events = [Self.event(1)]
        stored.total = 1
        let resolved = try resolve(#"{"user_id":"u4"}"#, stored)
        #expect(resolved.query.history.map(\.row) == [7] && resolved.query.userRow == nil)
        #expect(resolved.query.userFeatures.isEmpty && resolved.query.userID == "u4")
    }

    @Test func `kept events are left out of the answer also where no model looks at them`() throws {
        let events = (0..<5000).map { Self.event($0, item: $0 == 3 ? "i3" : "i7", action: "like") }
        let stored = StoredUser(id: "new", total: 5000, events: events)
        var resolved = try resolve(#"{"user_id":"new"}"#, stored)
        #expect(resolved.query.history.count == ResolvedRequest.storedHistoryMaximum)
        #expect(Set(resolved.excluded) == [3, 7])
        resolved = try resolve(#"{"user_id":"new","exclude_seen":{"actions":["view"]}}"#, stored)
        #expect(resolved.excluded.isEmpty)
        let age = SmallBundle.now - events[10].time
        resolved = try resolve(#"{"user_id":"new","exclude_seen":{"within_s":\#(age)}}"#, stored)
        #expect(Set(resolved.excluded) == [7])
    }

    @Test func `a bundle's history becomes a seed that answers as the history did`() throws {
        let snapshot = try SmallBundle.loaded()
        let seed = try #require(snapshot.seed(of: "u7", limit: 5))
        #expect(seed.offset == 2 && seed.events.map(\.eventID) == (2..<7).map { "bundle-\($0)" })
        let stored = StoredUser(id: "u7", total: 7, events: seed.events)
        let (ours, theirs) = (
            try resolve(#"{"user_id":"u7"}"#, stored), try resolve(#"{"user_id":"u7"}"#, nil)
        )
        #expect(ours.query.history == Array(theirs.query.history.suffix(5)))
        #expect(ours.query.historyOffset == 2 && theirs.query.historyOffset == 0)
        #expect(snapshot.seed(of: "u0", limit: 5) == nil && snapshot.seed(of: "nobody", limit: 5) == nil)
    }

    // MARK: - Windows

    @Test func `the window begins where the total says, whatever is no longer kept`() {
        // All are known, and the window is within what is kept: as if the whole history had been given.
        for total in [0, 1, 15, 16, 17, 40, 99, 100, 101, 130] {
            let kept = min(total, 40)
            let place = StoredHistory.place(
                Array(total - kept..<total), oldest: total - kept, total: total, maxEvents: 16, block: 4)
            #expect(place.leftOut == 0 && place.offset == total - kept, "\(total)")
        }
    }

    @Test(arguments: [1, 2, 3, 4])
    func `a growing history keeps its window for blocks of events, unknown items or not`(seed: UInt64) {
        var random = SeededRandom(seed)
        let (maxEvents, block) = (16, 4)
        // More and fewer events than the window has, down to where every event moves it.
        for keptMaximum in [64, 20, 16, 9] {
            let isKnown = (0..<400).map { _ in Int.random(in: 0..<4, using: &random) > 0 }
            var changes = 0
            var before: (start: Int, first: Int)?
            for total in 1...400 {
                let oldest = max(0, total - keptMaximum)
                let numbers = (oldest..<total).filter { isKnown[$0] }
                let place = StoredHistory.place(
                    numbers, oldest: oldest, total: total, maxEvents: maxEvents, block: block)
                let shown = Array(numbers.dropFirst(place.leftOut))
                var window = HistoryWindow(maxEvents: maxEvents, block: block)
                window.fill(
                    history: shown.map { HistoryEvent(row: $0, time: 1) }, offset: place.offset)
                #expect(place.offset >= 0 && window.count <= maxEvents)
                guard let first = window.itemRows.first else { continue }
                if let before, (window.start, first) != before { changes += 1 }
                before = (window.start, first)
            }
            // At most a slide per block of all events and one per block of the known ones.
            #expect(changes <= 2 * 400 / block, "\(keptMaximum): \(changes)")
        }
    }
}
