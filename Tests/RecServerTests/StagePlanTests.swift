import TestSupport
import Testing

@testable import RecServer

@Suite struct StagePlanTests {
    static let millisecond: UInt64 = 1_000_000

    @Test func `a stage without units is free and teaches nothing`() {
        var cost = StageCost()
        #expect(cost.estimate(500) == 0)
        cost.learn(nanoseconds: 1_000_000, units: 0)
        #expect(cost.perUnit == 0)
        cost.learn(nanoseconds: 3200, units: 32)
        #expect(cost.estimate(0) == 0)
        #expect(cost.estimate(320) == 32_000)
    }

    @Test func `fewer than 32 units cost like 32`() {
        var cost = StageCost()
        cost.learn(nanoseconds: 3200, units: 1)
        #expect(cost.perUnit == 100)
        #expect(cost.estimate(1) == 3200 && cost.estimate(32) == 3200 && cost.estimate(33) == 3300)
    }

    @Test func `a sample counts as at most four times the estimate`() {
        var cost = StageCost()
        cost.learn(nanoseconds: 3200, units: 32)
        cost.learn(nanoseconds: 1 << 50, units: 32)
        #expect(cost.perUnit == 137.5)
        cost.learn(nanoseconds: 0, units: 32)
        #expect(cost.perUnit == 137.5 - 137.5 / 8)
    }

    @Test func `no sample is too large for an estimate`() {
        var costs = StageCosts()
        for nanoseconds in [UInt64.max, .max, 1] { costs.rank.learn(nanoseconds: nanoseconds, units: 1) }
        costs.retrieve = costs.rank
        costs.tail = costs.rank
        costs.prefill = costs.rank
        costs.sequence = costs.rank
        #expect(
            costs.plan(events: 4096, sequenced: 10_000, ranked: 10_000, remaining: Self.millisecond)
                == .popular)
        #expect(
            costs.replan(.full, sequenced: 10_000, ranked: 10_000, remaining: Self.millisecond) == .retrieval)
    }

    @Test func `an estimate fades by a tenth and comes back at once`() {
        var cost = StageCost()
        cost.learn(nanoseconds: 3200, units: 32)
        cost.fade()
        #expect(abs(cost.perUnit - 90) < 1e-9)
        for _ in 0..<10_000 { cost.fade() }
        // Too low an estimate overruns deadlines: after an overload the cost must be known again soon.
        for _ in 0..<8 { cost.learn(nanoseconds: 3200, units: 32) }
        #expect(cost.perUnit >= 50 && cost.perUnit <= 100)
    }

    /// The ladder, spelled out.
    func slow(_ c: StageCosts, _ events: Int, _ sequenced: Int, _ ranked: Int, _ remaining: UInt64)
        -> StagePlan
    {
        let base = c.retrieve.estimate(1) + c.tail.estimate(1)
        let needs: [(StagePlan, UInt64)] = [
            (
                .full,
                base + c.prefill.estimate(events) + c.sequence.estimate(sequenced) + c.rank.estimate(ranked)
            ), (.withoutSequence, base + c.rank.estimate(ranked)), (.retrieval, base),
        ]
        return remaining == 0 ? .popular : needs.first { $0.1 <= remaining }?.0 ?? .popular
    }

    @Test func `the plan is the fullest rung that fits`() {
        var random = SeededRandom(11)
        var seen: Set<StagePlan> = []
        for _ in 0..<5000 {
            var costs = StageCosts()
            func sample() -> UInt64 { UInt64.random(in: 0...4_000_000, using: &random) }
            costs.prefill.learn(nanoseconds: sample(), units: 64)
            costs.retrieve.learn(nanoseconds: sample(), units: 1)
            costs.sequence.learn(nanoseconds: sample(), units: 500)
            costs.rank.learn(nanoseconds: sample(), units: 500)
            costs.tail.learn(nanoseconds: sample(), units: 1)
            let events = [0, 1, 64, 500].randomElement(using: &random)!
            let sequenced = events == 0 ? 0 : 500
            let ranked = [0, 1, 500, 10_000].randomElement(using: &random)!
            let remaining = UInt64.random(in: 0...12_000_000, using: &random)
            let plan = costs.plan(events: events, sequenced: sequenced, ranked: ranked, remaining: remaining)
            #expect(plan == slow(costs, events, sequenced, ranked, remaining))
            seen.insert(plan)
        }
        #expect(seen.count == 4)
    }

    @Test func `a passed deadline leaves only the popular list, also before anything is measured`() {
        #expect(StageCosts().plan(events: 9, sequenced: 9, ranked: 9, remaining: 0) == .popular)
        #expect(StageCosts().plan(events: 9, sequenced: 9, ranked: 9, remaining: 1) == .full)
    }

    @Test func `after retrieval the plan only falls, and to the fullest rung that fits`() {
        var costs = StageCosts()
        costs.sequence.learn(nanoseconds: 3 * Self.millisecond, units: 100)
        costs.rank.learn(nanoseconds: 2 * Self.millisecond, units: 100)
        costs.tail.learn(nanoseconds: Self.millisecond, units: 1)
        func replan(_ plan: StagePlan, _ ms: UInt64, _ sequenced: Int = 100, _ ranked: Int = 100) -> StagePlan
        {
            costs.replan(plan, sequenced: sequenced, ranked: ranked, remaining: ms * Self.millisecond)
        }
        #expect(replan(.full, 7) == .full && replan(.full, 5) == .withoutSequence)
        #expect(replan(.full, 2) == .retrieval && replan(.full, 0) == .retrieval)
        #expect(replan(.withoutSequence, 100) == .withoutSequence)
        #expect(replan(.retrieval, 100) == .retrieval)
        // Without a history the sequence model costs nothing; without a ranker neither does that.
        #expect(replan(.full, 4, 0, 100) == .full && replan(.full, 2, 0, 0) == .full)
    }

    @Test(arguments: 0..<5, [100_000_000, 10_000_000_000, 100_000_000_000] as [UInt64])
    func `after one huge sample in any stage the full plan comes back`(stage: Int, huge: UInt64) {
        let stages: [WritableKeyPath<StageCosts, StageCost>] = [
            \.prefill, \.retrieve, \.sequence, \.rank, \.tail,
        ]
        let units = [64, 1, 500, 500, 1]
        for isFirst in [true, false] {
            var costs = StageCosts()
            func run(_ plan: StagePlan, _ disturbed: UInt64? = nil) {
                let lastStage: [StagePlan] = [.full, .retrieval, .full, .withoutSequence, .retrieval]
                for index in stages.indices where plan <= lastStage[index] {
                    let sample = index == stage ? disturbed ?? 2_000_000 : 2_000_000
                    costs[keyPath: stages[index]].learn(nanoseconds: sample, units: units[index])
                }
                costs.fadeSkipped(by: plan)
            }
            if !isFirst { for _ in 0..<20 { run(.full) } }
            run(.full, huge)
            var requests = 0
            while requests < 1000 {
                let plan = costs.plan(events: 64, sequenced: 500, ranked: 500, remaining: 100_000_000)
                if plan == .full { break }
                run(plan)
                requests += 1
            }
            // A pause after normal runs does not even cost one request; a first sample of 100 s costs 70.
            #expect(requests <= (isFirst ? 80 : 0))
        }
    }
}

@Suite struct BudgetTests {
    @Test func `what remains falls to zero at the deadline and stays there`() {
        let budget = Budget(receivedAt: 1_000_000, milliseconds: 2, mayDegrade: true)
        #expect(budget.deadline == 3_000_000)
        #expect(budget.remaining(at: 1_000_000) == 2_000_000)
        #expect(budget.remaining(at: 2_999_999) == 1)
        #expect(budget.remaining(at: 3_000_000) == 0 && budget.remaining(at: .max) == 0)
    }

    @Test func `a passed deadline is a problem only for callers who allow no lesser answer`() throws {
        try Budget(receivedAt: 0, milliseconds: 1, mayDegrade: true).check()
        try Budget(receivedAt: .max / 2, milliseconds: 1, mayDegrade: false).check()
        #expect(throws: Problem(.deadline, "the budget was used up before the answer was complete")) {
            try Budget(receivedAt: 0, milliseconds: 1, mayDegrade: false).check()
        }
    }
}
