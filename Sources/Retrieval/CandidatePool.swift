internal import RecCore

/// The candidates of one request while sources add to them: each row once, with all its sources and its best
/// rank.
struct CandidatePool {
    /// What an offered row met.
    enum Verdict { case added, known, excluded, filtered }

    // What the map holds instead of a slot; the counted ones have been offered before.
    private static let excluded: Int32 = -1
    private static let excludedCounted: Int32 = -2
    private static let filteredCounted: Int32 = -3
    /// Refused rows that are remembered; beyond, a row that several sources offer counts more than once.
    private static let refusedMaximum = 65_536

    private var slotOf = RowMap(capacity: 4096)
    private(set) var rows: [UInt32] = []
    private(set) var sources: [CandidateSources] = []
    private var ranks: [Int] = []
    private var order: [Int] = []
    private var starts: [Int] = []

    /// Different rows offered that are excluded, and that the filter refuses.
    private(set) var excludedCount = 0
    private(set) var filteredCount = 0
    var filter: CompiledFilter?

    var count: Int { rows.count }

    mutating func begin(excluded: [Int], filter: CompiledFilter?) {
        slotOf.removeAll()
        rows.removeAll(keepingCapacity: true)
        sources.removeAll(keepingCapacity: true)
        ranks.removeAll(keepingCapacity: true)
        excludedCount = 0
        filteredCount = 0
        self.filter = filter
        for row in excluded { if let row = UInt32(exactly: row) { slotOf.set(row, Self.excluded) } }
    }

    /// Whether a row may be a candidate, without counting it.
    func admits(_ row: UInt32) -> Bool {
        if slotOf.count > 0, let value = slotOf[row] { return value >= 0 }
        return filter?.matches(Int(row)) ?? true
    }

    /// Adds a row that a source ranks at `rank`, or notes one more source of it.
    mutating func offer(_ row: UInt32, from source: CandidateSources, rank: Int) -> Verdict {
        if let value = slotOf[row] {
            switch value {
            case Self.excluded:
                excludedCount += 1
                slotOf.set(row, Self.excludedCounted)
                return .excluded
            case Self.excludedCounted: return .excluded
            case Self.filteredCounted: return .filtered
            default: break
            }
            let slot = Int(value)
            sources[slot].formUnion(source)
            ranks[slot] = min(ranks[slot], rank)
            return .known
        }
        if let filter, !filter.matches(Int(row)) {
            filteredCount += 1
            if slotOf.count < Self.refusedMaximum { slotOf.set(row, Self.filteredCounted) }
            return .filtered
        }
        slotOf.set(row, Int32(truncatingIfNeeded: rows.count))
        rows.append(row)
        sources.append(source)
        ranks.append(rank)
        return .added
    }

    /// Slots by best rank, then score (larger first), then row; slots without a finite score are left out.
    mutating func ordered(by scores: [Float]) -> ArraySlice<Int> {
        // Ranks are small: one counting pass, then the few slots of one rank among themselves.
        let buckets = (ranks.max() ?? 0) + 1
        starts.removeAll(keepingCapacity: true)
        starts.append(contentsOf: repeatElement(0, count: buckets + 1))
        for slot in 0..<count where scores[slot].isFinite { starts[ranks[slot] + 1] += 1 }
        for bucket in 0..<buckets { starts[bucket + 1] += starts[bucket] }
        let total = starts[buckets]
        if order.count < total { order.append(contentsOf: repeatElement(0, count: total - order.count)) }
        for slot in 0..<count where scores[slot].isFinite {
            order[starts[ranks[slot]]] = slot
            starts[ranks[slot]] += 1
        }
        for position in 0..<total {
            let slot = order[position]
            var at = position
            while at > 0, ranks[order[at - 1]] == ranks[slot], precedes(slot, order[at - 1], scores) {
                order[at] = order[at - 1]
                at -= 1
            }
            order[at] = slot
        }
        return order[0..<total]
    }

    private func precedes(_ a: Int, _ b: Int, _ scores: [Float]) -> Bool {
        scores[a] != scores[b] ? scores[a] > scores[b] : rows[a] < rows[b]
    }
}
