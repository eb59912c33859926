/// Smoothed cost per unit of a stage's work, measured by the thread that does it.
struct StageCost {
    /// Fewer units cost like this many: below it a stage's fixed part outweighs the rest.
    private static let unitMinimum = 32

    /// Nanoseconds per event or candidate; 0 until measured.
    private(set) var perUnit = 0.0
    /// The same without what has faded since the last run.
    private var measured = 0.0

    /// What `units` will cost, in nanoseconds; 0 for none. At most 2⁶⁰, so that a sum of stages does not
    /// overflow.
    func estimate(_ units: Int) -> UInt64 {
        units == 0 ? 0 : UInt64(min(perUnit * Double(max(units, Self.unitMinimum)), 0x1p60))
    }

    /// Learns from a run: 1/8 of the difference, and no sample counts as more than four times what was
    /// measured before, so that one pause of the machine does not switch a stage off.
    mutating func learn(nanoseconds: UInt64, units: Int) {
        guard units > 0 else { return }
        let sample = Double(nanoseconds) / Double(max(units, Self.unitMinimum))
        perUnit += measured == 0 ? sample : (min(sample, measured * 4) - perUnit) / 8
        measured = perUnit
    }

    /// A stage that was skipped cannot be measured: its estimate fades until it is tried again.
    mutating func fade() { perUnit *= 0.9 }
}

/// What the stages have cost lately, on one thread.
struct StageCosts {
    var prefill = StageCost()
    var retrieve = StageCost()
    var sequence = StageCost()
    var rank = StageCost()
    /// Slate and encoding.
    var tail = StageCost()

    /// The fullest answer that fits into `remaining` nanoseconds: all stages, without the sequence model,
    /// retrieval's order, or the popular list. Stages whose units are 0 do not exist for the request and cost
    /// nothing.
    func plan(events: Int, sequenced: Int, ranked: Int, remaining: UInt64) -> StagePlan {
        // Also before anything is measured and every estimate is 0.
        guard remaining > 0 else { return .popular }
        let base = retrieve.estimate(1) + tail.estimate(1)
        let rank = rank.estimate(ranked)
        if base + prefill.estimate(events) + sequence.estimate(sequenced) + rank <= remaining { return .full }
        if base + rank <= remaining { return .withoutSequence }
        return base <= remaining ? .retrieval : .popular
    }

    /// The same once the candidates are there: what is left to do must fit.
    func replan(_ plan: StagePlan, sequenced: Int, ranked: Int, remaining: UInt64) -> StagePlan {
        let rank = rank.estimate(ranked) + tail.estimate(1)
        if plan == .full, sequence.estimate(sequenced) + rank <= remaining { return .full }
        return plan <= .withoutSequence && rank <= remaining ? .withoutSequence : .retrieval
    }

    /// Fades the estimates of what `plan` leaves out.
    mutating func fadeSkipped(by plan: StagePlan) {
        if plan > .full {
            prefill.fade()
            sequence.fade()
        }
        if plan > .withoutSequence { rank.fade() }
        if plan > .retrieval {
            retrieve.fade()
            tail.fade()
        }
    }
}

/// A rung of the ladder, the fullest first.
enum StagePlan: Int, Comparable {
    case full, withoutSequence, retrieval, popular

    static func < (a: StagePlan, b: StagePlan) -> Bool { a.rawValue < b.rawValue }
}
