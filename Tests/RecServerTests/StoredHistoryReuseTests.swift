import Foundation
import Ranking
import Synchronization
import TestSupport
import Testing
import Threading
import UserState

@testable import RecServer

/// Keys and values of kept histories: what is used again, and that it never shows in an answer.
@Suite struct StoredHistoryReuseTests {
    let snapshot: Snapshot
    let cache: HistoryCache
    let cached: RecommendPipeline
    let twin: RecommendPipeline

    init() throws {
        snapshot = try HistoryReuseTests.bundle(seed: 3, version: "v1", hasTimeBias: true)
        let budget = HistoryBudget(byteCount: 1 << 22)
        cache = try #require(budget.cache(for: snapshot))
        cache.setLimit(1 << 22)
        let settings = PipelineSettings(try Configuration())
        cached = RecommendPipeline(snapshot, settings, Metrics(), cache: cache)
        twin = RecommendPipeline(snapshot, settings, Metrics())
    }

    /// The cached answer's word on the history, once the answer has been compared with the uncached one.
    func history(_ stored: StoredUser, _ more: String = "", now: Double = SmallBundle.now) throws
        -> Recommendation.History
    {
        let candidates = stride(from: 0, to: SmallBundle.items, by: 3).map { #"{"item_id":"i\#($0)"}"# }
        let body =
            #"{"user_id":"\#(stored.id)","now":\#(now),"degrade":"never","deadline_ms":10000,"candidates":"#
            + "[\(candidates.joined(separator: ","))]\(more)}"
        let request = try RecommendRequest(body: Array(body.utf8))
        let answers = try [cached, twin].map { pipeline in
            var clock = StageClock(start: 0)
            return try pipeline.recommend(
                request, stored: stored, receivedAt: MonotonicClock.nanoseconds, clock: &clock)
        }
        #expect(HistoryReuseTests.isSame(answers[0], answers[1]), "\(answers[0].history)")
        return answers[0].history
    }

    func user(_ count: Int) -> StoredUser {
        StoredUser(id: "a", total: count, events: (0..<count).map { StoredHistoryTests.event($0) })
    }

    @Test func `a new event extends what was kept, and only a window that moves on begins anew`() throws {
        var stored = user(30)
        #expect(try history(stored).cache == .miss)
        #expect(try history(stored).cache == .hit)
        var misses = 0
        for number in 30..<150 {
            stored.events.append(StoredHistoryTests.event(number))
            stored.total += 1
            if stored.events.count > 64 { stored.events.removeFirst() }
            let known = try history(stored)
            let isSlide = number >= 40 && number % 4 == 0
            #expect(known.cache == (isSlide ? .miss : .extended), "event \(number)")
            if known.cache == .miss { misses += 1 } else { #expect(known.reused >= min(number, 35) - 1) }
        }
        #expect(misses == 28)
    }

    @Test func `an event that goes, comes late or is edited spoils what follows it and no more`() throws {
        var stored = user(30)
        #expect(try history(stored).cache == .miss)
        stored.events.remove(at: 20)
        stored.total -= 1
        var known = try history(stored)
        #expect(known.cache == .extended && (19...20).contains(known.reused))
        var late = StoredHistoryTests.event(25, item: "i5")
        late.time += 1
        stored.events.insert(late, at: 25)
        stored.total += 1
        known = try history(stored)
        #expect(known.cache == .extended && (24...25).contains(known.reused))
        stored.events[10].action = "like"
        known = try history(stored)
        #expect(known.cache == .extended && (9...10).contains(known.reused))
        known = try history(stored, #","session":[{"item_id":"i39"}]"#)
        #expect(known.cache == .hit && known.events == 31)
        #expect(try history(stored).cache == .hit)
    }

    @Test func `without consent nothing is looked up and nothing kept`() throws {
        var stored = user(20)
        stored.hasConsent = false
        #expect(try history(stored, #","history":[{"item_id":"i1"}]"#).cache == .none)
        #expect(cache.userCount == 0)
        stored.hasConsent = true
        _ = try history(stored)
        stored.hasConsent = false
        #expect(try history(stored, #","history":[{"item_id":"i1"}]"#).cache == .none)
        #expect(try history(stored).events == 0)
    }

    @Test(arguments: [1, 2, 3])
    func `random changes are answered as if nothing were kept`(seed: UInt64) throws {
        var random = SeededRandom(seed)
        var users = (0..<4).map { StoredUser(id: "u\($0)") }
        var number = 0
        for _ in 0..<300 {
            let index = Int.random(in: 0..<users.count, using: &random)
            Self.change(&users[index], &number, &random)
            let session = Int.random(in: 0..<4, using: &random) == 0 ? #","session":[{"item_id":"i9"}]"# : ""
            _ = try history(
                users[index], session,
                now: SmallBundle.now + Double([0, 100, 1e5].randomElement(using: &random) ?? 0))
        }
        let outcomes = cache.counters.reading.outcomes
        for outcome in [HistoryOutcome.hit, .extended, .miss] { #expect(outcomes[outcome, default: 0] > 0) }
    }

    @Test func `beside writers every answer is as if nothing were kept, and an erased user's is`() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/stored-history-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let states = try UserStates(directory: folder)
        let names = (0..<4).map { "u\($0)" }
        let settings = PipelineSettings(try Configuration())
        let writing = Atomic<Int>(2)
        let answers = Atomic<Int>(0)
        let differences = Atomic<Int>(0)
        let (snapshot, cache) = (snapshot, cache)
        let writers = try (0..<2).map { writer in
            try NamedThread(name: "writer") {
                var random = SeededRandom(UInt64(writer))
                for number in 0..<200 {
                    let user = names[Int.random(in: 0..<names.count, using: &random)]
                    var event = StoredHistoryTests.event(number)
                    event.eventID = "\(writer)-\(number)"
                    let isErasure = number % 50 == 49
                    let change =
                        isErasure ? UserChange.erase(user: user) : .append([(user: user, event: event)])
                    let latch = Latch(count: 1)
                    while !states.submit(change, completion: { _ in latch.countDown() }) {}
                    _ = latch.wait(within: .seconds(60))
                    if isErasure { cache.remove(user: user) }
                }
                writing.subtract(1, ordering: .releasing)
            }
        }
        let readers = try (0..<2).map { reader in
            try NamedThread(name: "reader") {
                let cached = RecommendPipeline(snapshot, settings, Metrics(), cache: cache)
                let twin = RecommendPipeline(snapshot, settings, Metrics())
                var random = SeededRandom(UInt64(10 + reader))
                var rounds = 0
                while writing.load(ordering: .acquiring) > 0 || rounds < 50 {
                    rounds += 1
                    let name = names[Int.random(in: 0..<names.count, using: &random)]
                    let stored = (try? states.user(name)) ?? nil
                    let same = try? Self.isSame(cached, twin, stored ?? StoredUser(id: name))
                    if same != true { differences.add(1, ordering: .relaxed) }
                    answers.add(1, ordering: .relaxed)
                }
            }
        }
        for thread in writers + readers { thread.join() }
        states.stop()
        #expect(differences.load(ordering: .relaxed) == 0)
        #expect(answers.load(ordering: .relaxed) >= 100)
        #expect(cache.counters.reading.outcomes[.extended, default: 0] > 0)
    }

    /// Whether two pipelines answer alike for what is held of a user.
    private static func isSame(
        _ first: RecommendPipeline, _ second: RecommendPipeline, _ stored: StoredUser
    ) throws -> Bool {
        let candidates = stride(from: 0, to: SmallBundle.items, by: 3).map { #"{"item_id":"i\#($0)"}"# }
        let body =
            #"{"user_id":"\#(stored.id)","now":\#(SmallBundle.now),"degrade":"never","deadline_ms":10000,"#
            + #""candidates":[\#(candidates.joined(separator: ","))]}"#
        let request = try RecommendRequest(body: Array(body.utf8))
        let answers = try [first, second].map { pipeline in
            var clock = StageClock(start: 0)
            return try pipeline.recommend(
                request, stored: stored, receivedAt: MonotonicClock.nanoseconds, clock: &clock)
        }
        return HistoryReuseTests.isSame(answers[0], answers[1])
    }

    /// Mostly one more event; also late ones, unknown items, deletions, erasure.
    static func change(_ user: inout StoredUser, _ number: inout Int, _ random: inout SeededRandom) {
        number += 1
        var event = StoredHistoryTests.event(
            number, item: Int.random(in: 0..<5, using: &random) == 0 ? "gone" : nil,
            action: ["view", "like", "buy", nil].randomElement(using: &random) ?? nil)
        switch Int.random(in: 0..<12, using: &random) {
        case 0 where !user.events.isEmpty:
            user.events.remove(at: Int.random(in: 0..<user.events.count, using: &random))
            user.total -= 1
            return
        case 1 where !user.events.isEmpty:
            let place = Int.random(in: 0..<user.events.count, using: &random)
            event.time = user.events[place].time
            user.events.insert(event, at: place + 1)
        case 2 where user.events.count > 50: user = StoredUser(id: user.id, isErased: true)
        case 3, 4: return
        default: user.events.append(event)
        }
        user.total += 1
        if user.events.count > 56 { user.events.removeFirst() }
    }
}
