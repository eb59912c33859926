import RecCore
import TestSupport
import Testing
import Threading

@testable import Kernels
@testable import Ranking

@Suite struct HistoryCacheTests {
    static let models: [FakeModel] = [
        FakeModel(.earlierEvents), FakeModel(.nextTime(TimeBuckets())), FakeModel(.eventCount),
    ]

    static func cache(_ model: FakeModel, limit: Int = 1 << 30, mask: UInt64 = .max) -> HistoryCache {
        HistoryCache(
            model.dependence, dimension: 2, layout: FakeModel.layout, limit: limit,
            fingerprint: HistoryFingerprint(
                secret: HistoryFingerprint.Digest(low: 7, high: 11), mask: mask))
    }

    static func history(_ count: Int, seed: UInt64 = 1) -> [HistoryEvent] {
        var random = SeededRandom(seed)
        var time = 1e9
        return (0..<count).map { _ in
            time += Double(Int.random(in: 0..<5000, using: &random))
            return HistoryEvent(
                row: Int.random(in: 0..<50, using: &random), action: Int.random(in: 0..<3, using: &random),
                time: time)
        }
    }

    // MARK: What is answered

    /// Hashes that tell blocks apart, some of them, and none.
    @Test(arguments: models, [UInt64.max, 1, 0])
    func `answers as a dictionary of whole histories does`(model: FakeModel, mask: UInt64) {
        let cache = Self.cache(model, mask: mask)
        var twin = HistoryTwin(model)
        var random = SeededRandom(mask &+ 3)
        var histories = [[HistoryEvent]](repeating: [], count: 6)
        var outcomes: [HistoryOutcome: Int] = [:]
        for step in 0..<1500 {
            let u = Int.random(in: 0..<6, using: &random)
            let user = "user \(u)"
            switch Int.random(in: 0..<20, using: &random) {
            case 0: histories[u] = Self.history(Int.random(in: 1...110, using: &random), seed: UInt64(step))
            case 1...3 where !histories[u].isEmpty:
                let place = histories[u].indices.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<4, using: &random) {
                case 0: histories[u][place].row += 1
                case 1: histories[u][place].action ^= 1
                case 2: histories[u][place].time? += Double(Int.random(in: 0...2, using: &random))
                default: histories[u].remove(at: place)
                }
            case 4: histories[u].removeLast(min(histories[u].count, Int.random(in: 1...5, using: &random)))
            case 5:
                #expect(cache.remove(user: user) == (twin.users[user] != nil))
                twin.remove(user)
            case 6 where step % 10 == 0:
                cache.removeAll()
                twin.removeAll()
            case 7...13:
                let time = (histories[u].last?.time ?? 1e9) + Double(Int.random(in: 0...900, using: &random))
                histories[u].append(HistoryEvent(row: step % 70, action: 1, time: time))
            default: break
            }
            guard !histories[u].isEmpty else { continue }
            // Sometimes a question about another history than the newest, or with a session at its end.
            var asked = histories[u]
            if step % 7 == 0 { asked.removeFirst(asked.count / 3) }
            let session = step % 5 == 0 ? min(asked.count - 1, 1 + step % 3) : 0
            let window = model.window(asked)
            let base = max(1, window.count - session)
            let now = 1.1e9 + Double(Int.random(in: 0...3, using: &random) * 30_000_000)
            let expected = twin.serve(user, window, base: base, now: now)
            let (match, wrong) = model.serve(cache, user, window, base: base, now: now)
            #expect(wrong == 0)
            #expect(match.reusedRows == expected.reused && match.outcome == expected.outcome, "step \(step)")
            outcomes[match.outcome, default: 0] += 1
        }
        #expect(cache.userCount == twin.users.count)
        #expect(outcomes[.hit, default: 0] > 100 && outcomes[.miss, default: 0] > 50)
        if case .eventCount = model.dependence { return }
        #expect(outcomes[.extended, default: 0] > 100)
    }

    @Test(arguments: models)
    func `an edit anywhere spoils what follows and, with times, the row before it`(model: FakeModel) {
        let history = Self.history(60)
        let now = 1.2e9
        for place in 0..<60 {
            for change in 0..<3 {
                let cache = Self.cache(model)
                _ = model.serve(cache, "a", model.window(history), now: now)
                var edited = history
                switch change {
                case 0: edited[place].row += 1
                case 1: edited[place].action += 1
                // A year later: another class for every earlier event.
                default: edited[place].time? += 31_536_000
                }
                let (match, wrong) = model.serve(cache, "a", model.window(edited), now: now)
                let expected =
                    switch model.dependence {
                    case .earlierEvents, .eventCount: place
                    case .nextTime: change == 2 ? max(0, place - 1) : place
                    }
                #expect(wrong == 0 && match.reusedRows == expected, "change \(change) at \(place)")
            }
        }
    }

    @Test func `the same question again needs nothing, a later one the newest row`() {
        let model = Self.models[1]
        let cache = Self.cache(model)
        let window = model.window(Self.history(40))
        let last = window.times[39]
        #expect(model.serve(cache, "a", window, now: last + 100).match.outcome == .miss)
        let again = model.serve(cache, "a", window, now: last + 100)
        #expect(again.match.outcome == .hit && again.match.reusedRows == 40 && again.match.lastRow != nil)
        let later = model.serve(cache, "a", window, now: last + 1e8)
        #expect(later.match.outcome == .hit && later.match.reusedRows == 39 && later.match.lastRow == nil)
        #expect(!later.match.isWorthStoring && later.match.blocks.count == 3)
        let reading = cache.counters.reading
        #expect(reading.outcomes == [.hit: 2, .miss: 1, .extended: 0, .none: 0])
        #expect(reading.reusedTokens == 79 && reading.computedTokens == 41)
    }

    @Test func `without a reader of the newest row, keys and values alone are all of a history`() {
        let model = FakeModel(.earlierEvents)
        let cache = HistoryCache(
            model.dependence, dimension: 2, needsLastRow: false, layout: FakeModel.layout, limit: 1 << 20)
        let history = Self.history(40)
        for (count, reused, outcome) in [(40, 0, HistoryOutcome.miss), (40, 40, .hit), (30, 30, .hit)] {
            let window = model.window(Array(history.prefix(count)))
            var lease = cache.lease(user: "a", window: window, now: 0, deadline: 0)
            #expect(lease.match.outcome == outcome && lease.match.reusedRows == reused)
            #expect(lease.match.lastRow == nil && lease.match.isWorthStoring == (outcome == .miss))
            guard outcome == .miss else { continue }
            lease.store(blocks: (0..<3).compactMap { _ in cache.takeBlock() }, lastRow: nil)
        }
    }

    @Test func `a window that has moved on serves nothing and takes the old one's place`() {
        let model = FakeModel(.earlierEvents, maxEvents: 40, block: 8)
        let cache = Self.cache(model)
        let history = Self.history(41)
        _ = model.serve(cache, "a", model.window(Array(history.prefix(40))), now: 0)
        let bytes = cache.bytesInUse
        let (match, wrong) = model.serve(cache, "a", model.window(history), now: 0)
        #expect(match.outcome == .miss && match.reusedRows == 0 && wrong == 0)
        #expect(cache.counters.reading.evictions[.replaced] == 1 && cache.bytesInUse <= bytes)
    }

    @Test func `two alternating histories of a user both stay, a third one replaces the elder`() {
        let model = Self.models[0]
        let cache = Self.cache(model)
        let common = Self.history(32)
        let windows = (2..<5).map { model.window(common + Self.history(20, seed: $0)) }
        _ = model.serve(cache, "a", windows[0], now: 0)
        let one = cache.bytesInUse
        #expect(model.serve(cache, "a", windows[1], now: 0).match.reusedRows == 32)
        // Two blocks are shared, and counted once.
        #expect(cache.bytesInUse < 2 * one)
        for _ in 0..<3 {
            for window in windows.prefix(2) {
                #expect(model.serve(cache, "a", window, now: 0).match.reusedRows == 52)
            }
        }
        #expect(model.serve(cache, "a", windows[2], now: 0).match.outcome == .extended)
        #expect(model.serve(cache, "a", windows[1], now: 0).match.outcome == .hit)
        #expect(model.serve(cache, "a", windows[0], now: 0).match.outcome == .extended)
    }

    @Test func `without a user, events or a budget nothing is asked`() {
        let model = Self.models[0]
        let cache = Self.cache(model)
        let window = model.window(Self.history(5))
        #expect(cache.lease(user: nil, window: window, now: 0, deadline: 0).match.outcome == .none)
        #expect(cache.lease(user: "a", window: model.window([]), now: 0, deadline: 0).match.outcome == .none)
        #expect(cache.lease(user: "a", window: window, base: 0, now: 0, deadline: 0).match.outcome == .none)
        let off = Self.cache(model, limit: 0)
        #expect(model.serve(off, "a", window, now: 0).match.outcome == .none)
        #expect(model.serve(off, "a", window, now: 0).match.outcome == .none && off.bytesInUse == 0)
        #expect(cache.counters.reading.outcomes[.none] == 3)
    }

    // MARK: The budget

    @Test func `those who came back survive a scan of a hundred users for each of them`() {
        let model = FakeModel(.earlierEvents, maxEvents: 16, block: 16)
        let hot = (0..<1000).map { "hot user number \($0)" }
        let window = model.window(Self.history(10))
        let probe = Self.cache(model)
        _ = model.serve(probe, hot[999], window, now: 0)
        let limit = probe.bytesInUse * 1500
        let cache = Self.cache(model, limit: limit)
        for _ in 0..<2 { for user in hot { _ = model.serve(cache, user, window, now: 0) } }
        for number in 0..<100_000 {
            _ = model.serve(cache, "scan \(number)", window, now: 0)
            if number % 1000 == 0 { #expect(cache.bytesInUse <= limit) }
        }
        let hits = hot.filter { model.serve(cache, $0, window, now: 0).match.outcome == .hit }.count
        #expect(hits == 1000)
        #expect(cache.userCount >= 1400)
        // New users can become hot in the place of some of the old.
        let new = (0..<1200).map { "new user \($0)" }
        for user in new { for _ in 0..<2 { _ = model.serve(cache, user, window, now: 0) } }
        #expect(new.suffix(1000).allSatisfy { model.serve(cache, $0, window, now: 0).match.outcome == .hit })
    }

    @Test func `what was used longest ago goes first, in whatever shard it is`() {
        let model = FakeModel(.earlierEvents, maxEvents: 16, block: 16)
        let window = model.window(Self.history(10))
        let probe = Self.cache(model)
        _ = model.serve(probe, "user 0", window, now: 0)
        let cache = Self.cache(model, limit: probe.bytesInUse * 5)
        for number in 0..<9 { _ = model.serve(cache, "user \(number)", window, now: 0) }
        #expect(cache.recentUsers(10).map(\.user) == (4..<9).reversed().map { "user \($0)" })
        #expect(cache.counters.reading.evictions[.budget] == 4)
        cache.setLimit(probe.bytesInUse * 2)
        #expect(cache.recentUsers(10).map(\.user) == ["user 8", "user 7"])
        #expect(cache.recentUsers(1).map(\.user) == ["user 8"])
        #expect(cache.recentUsers(1)[0].events == Self.history(10) && cache.recentUsers(0).isEmpty)
        #expect(cache.bytesInUse == 2 * probe.bytesInUse && cache.userCount == 2)
    }

    @Test func `a history larger than what is free is kept as far as its blocks fit`() {
        let model = Self.models[0]
        let cache = Self.cache(model, limit: 20_000)
        let window = model.window(Self.history(90))
        for round in 0..<2 {
            let (match, wrong) = model.serve(cache, "a", window, now: 0)
            #expect(wrong == 0 && match.reusedRows == (round == 0 ? 0 : 64))
            #expect(cache.bytesInUse <= 20_000)
        }
    }

    // MARK: Removal and swaps

    @Test func `what is computed while its user is removed is not stored`() {
        let model = Self.models[0]
        for remove in [
            { $0.remove(user: "a") }, { $0.removeAll() }, { $0.retire() },
        ] as [(HistoryCache) -> Void] {
            let cache = Self.cache(model)
            let window = model.window(Self.history(20))
            _ = model.serve(cache, "a", window, now: 0, whilePromised: { remove(cache) })
            #expect(cache.userCount == 0 && cache.bytesInUse == 0)
            let longer = model.window(Self.history(30))
            _ = model.serve(cache, "a", window, now: 0)
            let outcome = model.serve(
                cache, "a", longer, now: 0, whilePromised: { remove(cache) }
            ).match.outcome
            #expect(outcome == (cache.limit == 0 ? .none : .extended))
            #expect(cache.userCount == 0 && cache.bytesInUse == 0)
        }
    }

    @Test func `a lowered budget holds as soon as running requests have ended`() {
        let model = Self.models[0]
        let cache = Self.cache(model)
        for number in 0..<50 {
            _ = model.serve(cache, "\(number)", model.window(Self.history(80)), now: 0)
        }
        let before = cache.bytesInUse
        let match = cache.lease(
            user: "7", window: model.window(Self.history(80)), now: 0, deadline: 0
        ).match
        cache.setLimit(0)
        #expect(cache.userCount == 0 && cache.bytesInUse == match.blocks.count * cache.pool.blockBytes)
        #expect(
            FakeModel.value(match.blocks, 79)
                == FakeModel.rowValue(
                    model.states(model.window(Self.history(80)), now: 0)[79]))
        cache.setLimit(before)
        _ = model.serve(cache, "a", model.window(Self.history(80)), now: 0)
        #expect(cache.userCount == 1)
    }

    @Test func `a retired cache gives its memory back and keeps nothing more`() {
        let model = Self.models[0]
        let cache = Self.cache(model)
        for number in 0..<500 {
            _ = model.serve(cache, "\(number)", model.window(Self.history(80)), now: 0)
        }
        #expect(cache.pool.bytesMapped > 0)
        cache.retire()
        #expect(cache.pool.bytesMapped == 0 && cache.bytesInUse == 0 && cache.userCount == 0)
        #expect(cache.counters.reading.evictions[.retired] == 500)
        cache.setLimit(1 << 20)
        _ = model.serve(cache, "a", model.window(Self.history(80)), now: 0)
        #expect(cache.userCount == 0 && cache.bytesInUse == 0)
    }
}
