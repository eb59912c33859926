import RecCore
import TestSupport

@testable import Kernels
@testable import Ranking

/// A stand-in for the sequence model whose rows are digests of everything that the rule says they depend on:
/// a row reused wrongly is a wrong number. Blocks of 4 KiB.
struct FakeModel: Sendable {
    static let layout = KeyValueLayout(layers: 1, heads: 1, keyDimension: 32, valueDimension: 32)
    let dependence: RowDependence
    let maxEvents: Int
    let block: Int

    init(_ dependence: RowDependence, maxEvents: Int = 100, block: Int = 20) {
        self.dependence = dependence
        self.maxEvents = maxEvents
        self.block = block
    }

    func window(_ history: [HistoryEvent]) -> HistoryWindow {
        var window = HistoryWindow(maxEvents: maxEvents, block: block)
        window.fill(history: history)
        return window
    }

    /// The state after each row; the float of row i is `rowValue` of state i.
    func states(_ window: HistoryWindow, now: Double) -> [UInt64] {
        var state = UInt64(window.start)
        return (0..<window.count).map { i in
            func add(_ word: UInt64) {
                var random = SeededRandom(state ^ word &* 0x2545_F491_4F6C_DD1D)
                state = random.next()
            }
            add(UInt64(window.itemRows[i]))
            add(UInt64(window.actions[i]))
            add(window.times[i].bitPattern)
            switch dependence {
            case .earlierEvents: break
            case .eventCount: add(UInt64(window.count))
            case .nextTime(let buckets):
                let next = i + 1 < window.count ? window.times[i + 1] : now
                for j in 0...i { add(UInt64(buckets.bucket(next - window.times[j]))) }
            }
            return state
        }
    }

    /// Exact in a float.
    static func rowValue(_ state: UInt64) -> Float { Float(state >> 42) }

    static func value(_ blocks: ArraySlice<KeyValueBlock>, _ row: Int) -> Float {
        let block = blocks[blocks.startIndex + row / KeyValueBlock.events]
        return unsafe block.storage.base[row % KeyValueBlock.events]
    }

    /// What a compute thread does with a request: looks up, checks what it gets, computes the rest, stores.
    /// - Returns: the match, and how many rows were not what this history's rows must be.
    func serve(
        _ cache: HistoryCache, _ user: String, _ window: HistoryWindow, base: Int? = nil, now: Double,
        deadline: UInt64 = 0, whilePromised: () -> Void = {}
    ) -> (match: HistoryMatch, wrong: Int) {
        var lease = cache.lease(user: user, window: window, base: base, now: now, deadline: deadline)
        let match = lease.match
        let states = states(window, now: now)
        var wrong = 0
        for row in 0..<match.reusedRows where Self.value(match.blocks, row) != Self.rowValue(states[row]) {
            wrong += 1
        }
        if let last = match.lastRow, let state = states.last, last[0, 0] != Self.rowValue(~state) {
            wrong += 1
        }
        if match.reusedRows == window.count, window.count > 0, match.lastRow == nil { wrong += 1 }
        // Reference counts order this reading before another use of the memory, but the thread sanitizer does
        // not see them; it sees the pool's lock.
        _ = cache.bytesInUse
        guard match.isWorthStoring else { return (match, wrong) }
        whilePromised()
        var blocks = Array(match.blocks)
        for row in match.reusedRows..<window.count {
            let index = row / KeyValueBlock.events
            if row == match.reusedRows || row % KeyValueBlock.events == 0 {
                // Shared blocks are frozen: a copy of the last one, or a new one.
                let block = cache.takeBlock() ?? KeyValueBlock(Self.layout)
                if index < blocks.count {
                    block.copy(from: blocks[index])
                    blocks[index] = block
                } else {
                    blocks.append(block)
                }
            }
            unsafe blocks[index].storage.base[row % KeyValueBlock.events] = Self.rowValue(states[row])
        }
        let lastRow = MutableMatrix(rows: 1, columns: 2)
        if let state = states.last { lastRow[0, 0] = Self.rowValue(~state) }
        lease.store(blocks: blocks, lastRow: lastRow.view.reading)
        return (match, wrong)
    }
}

/// The cache as a dictionary of arrays, without hashes, blocks, budget or locks.
struct HistoryTwin {
    struct Kept {
        let start: Int
        let events: [HistoryEvent]
        let states: [UInt64]
        var hasLastRow: Bool
    }

    let model: FakeModel
    private(set) var users: [String: [Kept]] = [:]

    init(_ model: FakeModel) { self.model = model }

    /// What the cache has to answer, and what it keeps afterwards.
    mutating func serve(_ user: String, _ window: HistoryWindow, base: Int, now: Double) -> (
        outcome: HistoryOutcome, reused: Int
    ) {
        let states = model.states(window, now: now)
        let events = (0..<window.count).map {
            HistoryEvent(row: window.itemRows[$0], action: window.actions[$0], time: window.times[$0])
        }
        let kept = users[user] ?? []
        var best = (outcome: HistoryOutcome.miss, reused: 0)
        var completes = false
        for old in kept where old.start == window.start {
            var reused = zip(old.states, states).prefix { $0 == $1 }.count
            let isWhole = old.events == events
            if reused == window.count, !(isWhole && old.hasLastRow) { reused -= 1 }
            let isHit = old.events.starts(with: events.prefix(base)) && reused >= base - 1
            if isHit || reused > best.reused {
                best = (isHit ? .hit : reused > 0 ? .extended : .miss, reused)
                completes = isWhole && !old.hasLastRow
            }
            if isHit { break }
        }
        if best.outcome == .hit, !completes { return best }
        if case .eventCount = model.dependence, base < window.count { return best }
        let new = Kept(
            start: window.start, events: Array(events.prefix(base)), states: Array(states.prefix(base)),
            hasLastRow: base == window.count)
        let others = kept.filter { old in
            let moved = new.start - old.start
            return moved < 0 || !new.events.starts(with: old.events.dropFirst(moved))
        }
        users[user] = [new] + others.prefix(HistoryCache.variantMaximum - 1)
        return best
    }

    mutating func remove(_ user: String) { users[user] = nil }
    mutating func removeAll() { users = [:] }
}
