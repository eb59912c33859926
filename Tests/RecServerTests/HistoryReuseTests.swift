import Foundation
import Ranking
import TestSupport
import Testing
import Threading

@testable import RecServer

/// Answers from a cache that many threads share against those of a twin that computes every history anew.
@Suite struct HistoryReuseTests {
    typealias Event = RecommendRequest.Event

    /// Two versions that score differently, each with windows of 40 events in blocks of 4.
    static func bundle(seed: UInt64, version: String, hasTimeBias: Bool) throws -> Snapshot {
        var small = SmallBundle(seed: seed, layers: 3, maxEvents: 40, hasTimeBias: hasTimeBias)
        small.manifest = small.manifest.replacing("small-1", with: version)
            .replacing("\"space_version\":\"small\"", with: "\"space_version\":\"\(version)\"")
        return try small.snapshot()
    }

    static func randomEvent(_ random: inout SeededRandom, after time: Double) -> Event {
        Event(
            itemID: "i\(Int.random(in: 0..<SmallBundle.items, using: &random))",
            action: ["view", "like", nil].randomElement(using: &random) ?? nil,
            timestamp: Double.random(in: 0..<1, using: &random) < 0.9
                ? time + Double([1, 60, 86_400].randomElement(using: &random) ?? 1) : nil)
    }

    /// Changes a history in place: mostly it grows, sometimes it is edited, cut or begun anew.
    static func change(_ history: inout [Event], _ random: inout SeededRandom) {
        let last = history.last { $0.timestamp != nil }?.timestamp ?? SmallBundle.now - 1e6
        switch Int.random(in: 0..<10, using: &random) {
        case 0 where !history.isEmpty:
            let place = Int.random(in: 0..<history.count, using: &random)
            history[place] = randomEvent(&random, after: history[place].timestamp ?? last)
        case 1 where !history.isEmpty: history.remove(at: Int.random(in: 0..<history.count, using: &random))
        case 2 where history.count > 70: history = []
        default:
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                history.append(randomEvent(&random, after: last))
            }
        }
    }

    static func request(_ user: String, _ history: [Event], _ random: inout SeededRandom) -> RecommendRequest
    {
        var request = RecommendRequest()
        request.userID = user
        request.history = history
        request.historyOffset = [0, 0, 3].randomElement(using: &random) ?? 0
        if Int.random(in: 0..<4, using: &random) == 0 {
            request.session = (0..<Int.random(in: 1...20, using: &random)).map { _ in
                randomEvent(&random, after: SmallBundle.now)
            }
        }
        request.now = SmallBundle.now + Double([0, 0, 100, 1e5].randomElement(using: &random) ?? 0)
        request.candidates = stride(from: 0, to: SmallBundle.items, by: 4).map {
            .init(itemID: "i\($0)", features: [:])
        }
        request.mayDegrade = false
        request.deadlineMilliseconds = 10_000
        return request
    }

    static func isSame(_ a: Recommendation, _ b: Recommendation) -> Bool {
        let theirs = Dictionary(uniqueKeysWithValues: b.items.map { ($0.itemID, $0.score) })
        guard a.items.count == b.items.count, a.modelVersion == b.modelVersion else { return false }
        let square = b.items.reduce(0) { $0 + $1.score * $1.score } / Double(max(1, b.items.count))
        return a.items.allSatisfy { item in
            guard let other = theirs[item.itemID] else { return false }
            return abs(item.score - other) <= 1e-5 * abs(other) + 1e-6 * square.squareRoot()
        }
    }

    /// Answers of this run; a long run is `RECSERVER_TEST_ANSWERS=100000`.
    static var answers: Int {
        ProcessInfo.processInfo.environment["RECSERVER_TEST_ANSWERS"].flatMap(Int.init) ?? 3000
    }

    static let answersPerVersion = 250

    @Test(arguments: [true, false])
    func `no answer under edits, sessions, removals and swaps is another than the uncached twin's`(
        hasTimeBias: Bool
    ) throws {
        let snapshots = try [1, 2].map {
            try Self.bundle(seed: $0, version: "v\($0)", hasTimeBias: hasTimeBias)
        }
        let settings = PipelineSettings(try Configuration())
        // Room for a few of the users.
        let service = try RecommendService(
            settings: settings, keepsPrevious: false, historyBytes: 40_000, logger: SmallBundle.silentLogger)
        let budget = service.registry.historyBudget
        @Sendable func publish(_ index: Int) throws {
            let snapshot = snapshots[index % 2]
            try service.registry.publish(
                LoadedBundle(
                    snapshot, path: "v", threads: 16, settings: settings, metrics: service.metrics,
                    histories: budget.cache(for: snapshot)), as: .default, share: nil, pinned: nil)
        }
        try publish(0)

        let histories = Lock<[String: [Event]]>([:])
        let wrong = Lock<[String]>([])
        let left = Lock(Self.answers / 2)
        // By answers and not by time: a new version's first requests make 16 threads' scratch memory. The
        // thread whose turn it is publishes beside the others, so that no scheduler can leave a switch out.
        let switches = Lock(0)
        @Sendable func publishNext() throws {
            try switches.withLock { count in
                count += 1
                try publish(count)
            }
        }
        let threads = try (0..<16).map { number in
            try NamedThread(name: "client-\(number)") {
                var random = SeededRandom(UInt64(number) + 100)
                let twins = snapshots.map { RecommendPipeline($0, settings, Metrics()) }
                while case let rest = left.withLock({ rest in
                    rest -= 1
                    return rest
                }), rest >= 0 {
                    if rest % Self.answersPerVersion == 0 {
                        do { try publishNext() } catch { wrong.withLock { $0.append("\(error)") } }
                    }
                    let user = "user-\(Int.random(in: 0..<24, using: &random))"
                    let history = histories.withLock { all in
                        if Int.random(in: 0..<2, using: &random) == 0 {
                            Self.change(&all[user, default: []], &random)
                        }
                        return all[user] ?? []
                    }
                    let request = Self.request(user, history, &random)
                    do throws(Problem) {
                        let chosen = try service.registry.choose(model: nil, userID: user, requestID: "r")
                            .bundle
                        var clock = StageClock(start: MonotonicClock.nanoseconds)
                        let answer = try chosen.pipelines.lend { pipeline throws(Problem) in
                            try pipeline.recommend(
                                request, receivedAt: MonotonicClock.nanoseconds, clock: &clock)
                        }
                        let twin = answer.modelVersion == "v1" ? twins[0] : twins[1]
                        let expected = try twin.recommend(
                            request, receivedAt: MonotonicClock.nanoseconds, clock: &clock)
                        if !Self.isSame(answer, expected) {
                            wrong.withLock { $0.append("\(answer.history) of \(history.count) events") }
                        }
                        switch Int.random(in: 0..<200, using: &random) {
                        case 0: chosen.histories?.removeAll()
                        case 1...4: chosen.histories?.remove(user: user)
                        default: break
                        }
                        let held = service.registry.versions.compactMap(\.histories)
                        for cache in held where cache.bytesInUse > budget.byteCount {
                            wrong.withLock { $0.append("\(cache.bytesInUse) bytes") }
                        }
                    } catch {
                        wrong.withLock { $0.append("\(error)") }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.withLock { $0 } == [])
        let reading = budget.counters.reading
        for outcome in [HistoryOutcome.hit, .extended, .miss] {
            #expect(reading.outcomes[outcome, default: 0] > 0, "no \(outcome)")
        }
        #expect(reading.evictions[.budget, default: 0] > 0)
        #expect(service.registry.swaps[.default]?.value == 1 + UInt64(switches.withLock { $0 }))
        #expect(switches.withLock { $0 } > 0)
        service.reaper.stop()
    }

    @Test func `an answer says how much of the history was kept`() throws {
        let snapshot = try Self.bundle(seed: 1, version: "v1", hasTimeBias: true)
        let budget = HistoryBudget(byteCount: 1 << 20)
        let cache = try #require(budget.cache(for: snapshot))
        cache.setLimit(1 << 20)
        let pipeline = RecommendPipeline(
            snapshot, PipelineSettings(try Configuration()), Metrics(), cache: cache)
        func history(_ body: String) throws -> Recommendation.History { try pipeline.answer(body).history }
        let events = (0..<20).map { #"{"item_id":"i\#($0)","timestamp":\#(1000 + $0)}"# }
        func body(_ events: some Sequence<String>, _ more: String = "") -> String {
            #"{"user_id":"a","now":2000,"history":[\#(events.joined(separator: ","))]\#(more)}"#
        }
        var known = try history(body(events))
        #expect(known.cache == .miss && known.reused == 0)
        known = try history(body(events))
        #expect(known.cache == .hit && known.reused == 20)
        // A day later the newest event's time class is another.
        known = try history(body(events).replacing("2000", with: "90000"))
        #expect(known.cache == .hit && known.reused == 19)
        known = try history(body(events + [#"{"item_id":"i30","timestamp":1900}"#]))
        #expect(known.cache == .extended && (19...20).contains(known.reused))
        known = try history(body(events, #","session":[{"item_id":"i31"}]"#))
        #expect(known.cache == .hit && known.events == 21)
        known = try history(body(events).replacing("i7", with: "i8"))
        #expect(known.cache == .extended && known.reused < 20 && known.reused >= 6)
        #expect(try history(#"{"now":1,"history":[{"item_id":"i1"}]}"#).cache == .none)
        #expect(cache.remove(user: "a"))
        #expect(try history(body(events)).cache == .miss)
    }
}
