/// A timer wheel: O(1) to set, O(expired) to advance; entries are never removed, their owner ignores stale
/// ones.
///
/// A deadline beyond the wheel's horizon (17 s) fires early as an entry, and its owner sets it again.
final class Timers {
    struct Entry: Equatable {
        var key: UInt64
        /// The tick the entry was set for: tells the owner's present entry from its stale ones.
        var tick: UInt64
    }

    /// 2^24 ns ≈ 16.8 ms.
    private static let shift: UInt64 = 24
    private static let slotCount = 1_024

    private var slots: [[Entry]] = Array(repeating: [], count: slotCount)
    private var current: UInt64
    private var count = 0
    /// No entry lies before this tick.
    private var earliest = UInt64.max

    init(now: UInt64) { current = now >> Self.shift }

    /// The tick under which `deadline` would be set.
    func tick(for deadline: UInt64) -> UInt64 {
        let wanted = (deadline >> Self.shift) &+ 1
        return min(max(wanted, current + 1), current + UInt64(Self.slotCount) - 1)
    }

    /// Sets an entry that fires at or after `deadline`, unless that is beyond the horizon; returns its tick.
    func set(_ key: UInt64, deadline: UInt64) -> UInt64 {
        let tick = tick(for: deadline)
        slots[Int(tick % UInt64(Self.slotCount))].append(Entry(key: key, tick: tick))
        count += 1
        earliest = min(earliest, tick)
        return tick
    }

    /// False when `advance` would find nothing.
    func isDue(_ now: UInt64) -> Bool { now >> Self.shift >= earliest }

    /// Moves the entries whose tick has come into `expired`.
    func advance(to now: UInt64, into expired: inout [Entry]) {
        let target = now >> Self.shift
        guard target > current else { return }
        guard count > 0, earliest <= target else {
            current = target
            return
        }
        let last = min(target, current + UInt64(Self.slotCount))
        for tick in current + 1...last {
            let slot = Int(tick % UInt64(Self.slotCount))
            guard !slots[slot].isEmpty else { continue }
            expired.append(contentsOf: slots[slot])
            count -= slots[slot].count
            slots[slot].removeAll(keepingCapacity: slots[slot].count <= 64)
        }
        current = target
        earliest = nextTick()
    }

    /// Milliseconds from `now` until the next entry, rounded up; nil without entries.
    func millisecondsUntilNext(now: UInt64) -> Int? {
        guard count > 0 else { return nil }
        let instant = earliest << Self.shift
        return instant <= now ? 0 : Int((instant - now) / 1_000_000) + 1
    }

    private func nextTick() -> UInt64 {
        guard count > 0 else { return .max }
        for step in 1...UInt64(Self.slotCount)
        where !slots[Int((current + step) % UInt64(Self.slotCount))].isEmpty {
            return current + step
        }
        return .max
    }
}
