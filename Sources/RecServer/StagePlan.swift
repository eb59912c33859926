/// Smoothed cost per unit of a stage's work, measured by the thread that does it.
struct StageCost {
    /// Fewer units cost like this many: below it a stage's fixed part outweighs the rest.
    private static let unitMinimum = 32
    /// Requests without the stage after which its estimate counts as old.
    private static let staleAfter = 32

    /// Nanoseconds per event or candidate; 0 until measured.
    private(set) var perUnit = 0.0
    /// Requests in a row that had no time for the stage.
    private var skipped = 0

    /// What `units` will cost, in nanoseconds; 0 for none. At most 2⁶⁰, so that a sum of stages does not
    /// overflow.
    func estimate(_ units: Int) -> UInt64 {
        units == 0 ? 0 : UInt64(min(perUnit * Double(max(units, Self.unitMinimum)), 0x1p60))
    }

    /// Learns from a run: 1/8 of the difference, and no sample counts as more than four times what was
    /// measured before, so that one pause of the machine does not switch a stage off. An old estimate gives
    /// way at once to a lower sample.
    mutating func learn(nanoseconds: UInt64, units: Int) {
        guard units > 0 else { return }
        let sample = Double(nanoseconds) / Double(max(units, Self.unitMinimum))
        if perUnit == 0 || (skipped >= Self.staleAfter && sample < perUnit) {
            perUnit = sample
        } else {
            perUnit += (min(sample, perUnit * 4) - perUnit) / 8
        }
        skipped = 0
    }

    /// Notes a request that had no time for the stage.
    mutating func skip() { skipped += 1 }
}

/// What the stages have cost lately, on one thread, and which rungs of the ladder it has left.
///
/// A rung is left when its estimate does not fit into what remains of a request's budget, and entered again
/// only when it fits with a quarter to spare: a cost about as large as the budget does not make the answers
/// change with every request. A rung that is left is not measured; so every 64th request without it tries it
/// although the estimate says no, and less often, down to every 1,024th, while that finds no lower cost.
struct StageCosts {
    var prefill = StageCost()
    var retrieve = StageCost()
    var sequence = StageCost()
    var rank = StageCost()
    /// Slate and encoding.
    var tail = StageCost()

    /// Requests without a rung between one that tries it and the next: at first, and at most.
    static let probeInterval = 64
    static let probeIntervalMaximum = 1024

    /// What is remembered of a rung.
    private struct Rung {
        var isLeft = false
        /// Requests without it since it was last tried.
        var skipped = 0
        var interval = StageCosts.probeInterval
    }
    /// By the plan's raw value; the popular list is always there.
    private var rungs = [Rung](repeating: Rung(), count: 3)
    /// The rung that the request in hand tries against the estimates.
    private var probed: StagePlan?

    /// Nanoseconds that all stages will take; 0 until they are measured.
    func estimate(events: Int, sequenced: Int, ranked: Int) -> UInt64 {
        retrieve.estimate(1) + tail.estimate(1) + prefill.estimate(events) + sequence.estimate(sequenced)
            + rank.estimate(ranked)
    }

    /// The fullest answer that fits into `remaining` nanoseconds: all stages, without the sequence model,
    /// retrieval's order, or the popular list. Stages whose units are 0 do not exist for the request and cost
    /// nothing.
    /// - Parameter events: history events that are to be encoded.
    mutating func plan(events: Int, sequenced: Int, ranked: Int, remaining: UInt64) -> StagePlan {
        probed = nil
        // Also before anything is measured and every estimate is 0.
        guard remaining > 0 else { return .popular }
        let needs = [
            estimate(events: events, sequenced: sequenced, ranked: ranked),
            estimate(events: 0, sequenced: 0, ranked: ranked), estimate(events: 0, sequenced: 0, ranked: 0),
        ]
        // A rung whose stage this request has no use for neither counts for it nor learns from it.
        let own = StagePlan.rungs.filter { rung in
            switch rung {
            case .full: events > 0 || sequenced > 0
            case .withoutSequence: ranked > 0
            case .retrieval, .popular: true
            }
        }
        let plan =
            StagePlan.rungs.first { rung in
                let isLeft = own.contains { $0 >= rung && rungs[$0.rawValue].isLeft }
                return needs[rung.rawValue] + (isLeft ? needs[rung.rawValue] / 4 : 0) <= remaining
            } ?? .popular
        for rung in own { if rung < plan { leave(rung) } else { rungs[rung.rawValue] = Rung() } }
        // One rung at a time: the next fuller one.
        guard let fuller = own.last(where: { $0 < plan }),
            rungs[fuller.rawValue].skipped >= rungs[fuller.rawValue].interval
        else { return plan }
        rungs[fuller.rawValue].skipped = 0
        rungs[fuller.rawValue].interval = min(
            rungs[fuller.rawValue].interval * 2, Self.probeIntervalMaximum)
        probed = fuller
        return fuller
    }

    /// The same once the candidates are there: what is left to do must fit.
    mutating func replan(_ plan: StagePlan, sequenced: Int, ranked: Int, remaining: UInt64) -> StagePlan {
        // A try that is given up teaches nothing.
        guard probed == nil else { return plan }
        let rank = rank.estimate(ranked) + tail.estimate(1)
        if plan == .full, sequence.estimate(sequenced) + rank <= remaining { return .full }
        let lesser: StagePlan =
            plan <= .withoutSequence && rank <= remaining ? .withoutSequence : max(plan, .retrieval)
        for rung in StagePlan.rungs where plan <= rung && rung < lesser { leave(rung) }
        return lesser
    }

    /// Notes the stages that `plan` leaves out.
    mutating func noteSkipped(by plan: StagePlan) {
        if plan > .full {
            prefill.skip()
            sequence.skip()
        }
        if plan > .withoutSequence { rank.skip() }
        if plan > .retrieval {
            retrieve.skip()
            tail.skip()
        }
    }

    private mutating func leave(_ rung: StagePlan) {
        rungs[rung.rawValue].isLeft = true
        rungs[rung.rawValue].skipped += 1
    }
}

/// A rung of the ladder, the fullest first.
enum StagePlan: Int, Comparable {
    case full, withoutSequence, retrieval, popular

    /// Those that take time and may be left.
    static let rungs: [StagePlan] = [.full, .withoutSequence, .retrieval]

    static func < (a: StagePlan, b: StagePlan) -> Bool { a.rawValue < b.rawValue }
}
