/// One lane's work, first in, first out.
struct WaitingLine<Element: Sendable>: Sendable {
    struct Entry: Sendable {
        let element: Element
        let work: Work
        /// Nanoseconds that the work was expected to take when it came.
        let cost: UInt64
        let queuedAt: UInt64
        /// When it has waited too long to be answered in time.
        let expiresAt: UInt64
        /// Nanoseconds that it was allowed to wait.
        let patience: UInt64
    }

    private var entries: [Entry?] = []
    private var first = 0

    /// Expected nanoseconds of everything that waits.
    private(set) var cost: UInt64 = 0
    /// Processor time that the lane has had, over its weight: the lane with the least comes next.
    var share = 0.0
    var limit = WaitLimit()

    var count: Int { entries.count - first }
    var isEmpty: Bool { count == 0 }
    /// When the first of all entries expires; `UInt64.max` without any.
    var earliestExpiry: UInt64 { entries[first...].reduce(.max) { min($0, $1?.expiresAt ?? .max) } }

    mutating func append(_ entry: Entry) {
        entries.append(entry)
        cost += entry.cost
    }

    mutating func removeFirst() -> Entry? {
        guard first < entries.count, let entry = entries[first] else { return nil }
        entries[first] = nil
        first += 1
        cost -= entry.cost
        // Room is given back in blocks, and at the latest when nothing is left.
        if first == entries.count || first >= 64 && first * 2 >= entries.count {
            entries.removeFirst(first)
            first = 0
        }
        return entry
    }

    /// Moves the entries for which `isStale` holds into `removed`.
    mutating func removeAll(where isStale: (Entry) -> Bool, into removed: inout [Entry]) {
        let waiting = entries[first...].compactMap { $0 }
        guard waiting.contains(where: isStale) else { return }
        let stale = waiting.filter(isStale)
        entries = waiting.filter { !isStale($0) }
        first = 0
        cost -= stale.reduce(0) { $0 + $1.cost }
        removed += stale
    }
}
