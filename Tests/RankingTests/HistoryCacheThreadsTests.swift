import RecCore
import TestSupport
import Testing
import Threading

@testable import Kernels
@testable import Ranking

@Suite struct HistoryCacheThreadsTests {
    static let model = HistoryCacheTests.models[1]

    /// Runs `body` on `count` threads and waits for them; the sum of what they return.
    static func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Int) throws -> Int {
        let sum = Lock(0)
        let threads = try (0..<count).map { index in
            try NamedThread(name: "test-\(index)") {
                let result = body(index)
                sum.withLock { $0 += result }
            }
        }
        for thread in threads { thread.join() }
        return sum.withLock { $0 }
    }

    @Test(arguments: HistoryCacheTests.models)
    func `sixteen threads get only the rows they asked about, within the budget`(model: FakeModel) throws {
        let limit = 200_000
        let cache = HistoryCacheTests.cache(model, limit: limit)
        let wrong = try Self.onThreads(16) { thread in
            var random = SeededRandom(UInt64(thread))
            var wrong = 0
            for _ in 0..<250 {
                let user = Int.random(in: 0..<30, using: &random)
                // A user's histories agree in part only.
                let seed = UInt64(user * 3 + Int.random(in: 0..<3, using: &random))
                var history = HistoryCacheTests.history(40, seed: UInt64(user))
                history += HistoryCacheTests.history(Int.random(in: 0...20, using: &random), seed: seed)
                switch Int.random(in: 0..<60, using: &random) {
                case 0: cache.removeAll()
                case 1...3: cache.remove(user: "\(user)")
                case 4: _ = cache.recentUsers(5)
                default: break
                }
                let now = 2e9 + Double(Int.random(in: 0..<2, using: &random)) * 1e8
                let window = model.window(history)
                wrong +=
                    model.serve(
                        cache, "\(user)", window,
                        base: max(1, window.count - Int.random(in: 0..<3, using: &random)),
                        now: now, deadline: MonotonicClock.nanoseconds + 10_000_000
                    ).wrong
                if cache.bytesInUse > limit { wrong += 1 }
            }
            return wrong
        }
        #expect(wrong == 0)
        let reading = cache.counters.reading
        #expect(reading.outcomes.values.reduce(0, +) == 16 * 250)
        #expect((reading.evictions[.budget] ?? 0) > 0 && (reading.outcomes[.hit] ?? 0) > 0)
        cache.removeAll()
        #expect(cache.bytesInUse == 0 && cache.userCount == 0)
    }

    @Test func `the budget may change and the bundle go while threads use the cache`() throws {
        let cache = HistoryCacheTests.cache(Self.model, limit: 300_000)
        let wrong = try Self.onThreads(9) { thread in
            var random = SeededRandom(UInt64(thread))
            var wrong = 0
            for step in 0..<200 {
                if thread == 0 {
                    cache.setLimit(step == 199 ? 0 : Int.random(in: 0...300_000, using: &random))
                    if step == 150 { cache.retire() }
                    continue
                }
                let user = Int.random(in: 0..<50, using: &random)
                let window = Self.model.window(HistoryCacheTests.history(30, seed: UInt64(user)))
                wrong += Self.model.serve(cache, "\(user)", window, now: 2e9).wrong
            }
            return wrong
        }
        #expect(wrong == 0)
        #expect(cache.bytesInUse == 0 && cache.userCount == 0 && cache.pool.bytesMapped == 0)
    }

    @Test func `of sixteen simultaneous requests of a user one computes`() throws {
        let cache = HistoryCacheTests.cache(Self.model)
        let window = Self.model.window(HistoryCacheTests.history(50))
        let wrong = try Self.onThreads(16) { _ in
            Self.model.serve(cache, "a", window, now: 2e9, deadline: .max) {
                while cache.counters.reading.waits < 15 {}
            }.wrong
        }
        let reading = cache.counters.reading
        #expect(wrong == 0 && reading.outcomes[.miss] == 1 && reading.outcomes[.hit] == 15)
        #expect(reading.computedTokens == 50 && reading.waits == 15)
    }

    @Test func `when the one who computes gives up the next one does it`() throws {
        let cache = HistoryCacheTests.cache(Self.model)
        let window = Self.model.window(HistoryCacheTests.history(50))
        let wrong = try Self.onThreads(4) { _ in
            do {
                let lease = cache.lease(user: "a", window: window, now: 2e9, deadline: .max)
                if lease.match.outcome == .hit { return 0 }
                while cache.counters.reading.waits < 3 {}
                // Ends without a result.
            }
            return Self.model.serve(cache, "a", window, now: 2e9, deadline: .max).wrong
        }
        #expect(wrong == 0)
        #expect(Self.model.serve(cache, "a", window, now: 2e9).match.outcome == .hit)
    }

    @Test func `who has waited until the deadline computes without a promise`() {
        let cache = HistoryCacheTests.cache(Self.model)
        let window = Self.model.window(HistoryCacheTests.history(50))
        let longer = Self.model.window(HistoryCacheTests.history(60))
        do {
            let first = cache.lease(user: "a", window: window, now: 2e9, deadline: .max)
            #expect(first.match.outcome == .miss)
            let deadline = MonotonicClock.nanoseconds + 1_000_000
            let second = Self.model.serve(cache, "a", window, now: 2e9, deadline: deadline)
            #expect(second.match.outcome == .miss && MonotonicClock.nanoseconds >= deadline)
            #expect(cache.counters.reading.waits == 1)
            // Stored all the same; a hit waits for nobody.
            #expect(Self.model.serve(cache, "a", window, now: 2e9, deadline: .max).match.outcome == .hit)
        }
        // The first one's mark went with its lease.
        #expect(Self.model.serve(cache, "a", longer, now: 2e9, deadline: .max).match.outcome == .extended)
        #expect(cache.counters.reading.waits == 1)
    }

    @Test func `threads that ask for two users in turn never wait for each other for ever`() throws {
        let cache = HistoryCacheTests.cache(Self.model, limit: 300_000)
        let wrong = try Self.onThreads(8) { thread in
            var wrong = 0
            for step in 0..<200 {
                let users = (thread + step) % 2 == 0 ? ["a", "b"] : ["b", "a"]
                let window = Self.model.window(
                    HistoryCacheTests.history(20 + step % 30, seed: UInt64(step)))
                for user in users {
                    wrong += Self.model.serve(cache, user, window, now: 2e9, deadline: .max).wrong
                }
            }
            return wrong
        }
        #expect(wrong == 0)
    }
}
