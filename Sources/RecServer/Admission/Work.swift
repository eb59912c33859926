/// What a request asks of a compute thread. Costs are measured for each kind.
enum WorkKind: Int, CaseIterable, Sendable {
    case recommend, similar, batch, events, users

    var lane: Lane {
        switch self {
        case .recommend, .similar: .answers
        case .events, .users: .changes
        case .batch: .batches
        }
    }
}

/// Work that waits in one line. Lanes with work share the compute threads by their weights; a lane alone has
/// all of them.
enum Lane: String, CaseIterable, Sendable {
    case answers, changes, batches

    var index: Int { Self.allCases.firstIndex(of: self) ?? 0 }

    /// Changes are short and few beside answers; batches have nobody waiting for a page.
    var weight: Double {
        switch self {
        case .answers: 4
        case .changes: 2
        case .batches: 1
        }
    }

    /// Nanoseconds that work without a deadline of its own may wait; nil where it has one.
    var patience: UInt64? {
        switch self {
        case .answers: nil
        case .changes: 1_000_000_000
        case .batches: 5_000_000_000
        }
    }
}

/// A request's work, as far as it is known before its body is decoded.
struct Work: Sendable {
    let kind: WorkKind
    /// What the cost grows with: 1, or for lists of any length the bytes they came in.
    var units: Int
    /// Nanoseconds after which the answer is worth nothing, where the request says so.
    var deadline: UInt64?

    init(_ kind: WorkKind, byteCount: Int = 0, deadline: UInt64? = nil) {
        self.kind = kind
        self.deadline = deadline
        switch kind {
        // 256: what a request costs that has next to no body.
        case .batch, .events: units = 256 + byteCount
        case .recommend, .similar, .users: units = 1
        }
    }
}

/// Smoothed time that work of a kind takes a compute thread, per unit.
struct WorkCost: Sendable {
    /// Runs of which the shortest counts, at first: they also pay for cold memory.
    private static let coldRuns = 8

    /// Nanoseconds; 0 until measured.
    private(set) var perUnit = 0.0
    private var runs = 0

    /// Nanoseconds for `units`, at most 2⁵⁰.
    func estimate(_ units: Int) -> UInt64 { UInt64(min(perUnit * Double(units), 0x1p50)) }

    /// Learns from a run: 1/16 of the difference. No sample counts as more than eight times what was measured
    /// before, so that one pause of the machine does not refuse everything after it.
    mutating func learn(nanoseconds: UInt64, units: Int) {
        let sample = Double(nanoseconds) / Double(max(units, 1))
        if runs < Self.coldRuns {
            perUnit = runs == 0 ? sample : min(perUnit, sample)
            runs += 1
        } else {
            perUnit += (min(sample, perUnit * 8) - perUnit) / 16
        }
    }
}
