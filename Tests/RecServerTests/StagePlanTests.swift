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
        let plan = costs.plan(
            events: 4096, sequenced: 10_000, ranked: 10_000, remaining: Self.millisecond)
        let later = costs.replan(.full, sequenced: 10_000, ranked: 10_000, remaining: Self.millisecond)
        #expect(plan == .popular && later == .retrieval)
    }

    @Test func `an old estimate gives way to a lower sample at once, a fresh one by an eighth`() {
        var cost = StageCost()
        cost.learn(nanoseconds: 3200, units: 32)
        for _ in 0..<31 { cost.skip() }
        cost.learn(nanoseconds: 0, units: 32)
        #expect(cost.perUnit == 87.5)
        for _ in 0..<32 { cost.skip() }
        cost.learn(nanoseconds: 320, units: 32)
        #expect(cost.perUnit == 10)
        for _ in 0..<32 { cost.skip() }
        cost.learn(nanoseconds: 640, units: 32)
        #expect(cost.perUnit == 11.25)
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
            let expected = slow(costs, events, sequenced, ranked, remaining)
            let plan = costs.plan(events: events, sequenced: sequenced, ranked: ranked, remaining: remaining)
            #expect(plan == expected)
            seen.insert(plan)
        }
        #expect(seen.count == 4)
    }

    @Test func `a passed deadline leaves only the popular list, also before anything is measured`() {
        var costs = StageCosts()
        let late = costs.plan(events: 9, sequenced: 9, ranked: 9, remaining: 0)
        let first = costs.plan(events: 9, sequenced: 9, ranked: 9, remaining: 1)
        #expect(late == .popular && first == .full)
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

    /// A thread whose whole answer costs about `cost` ms, in `requests` requests of 10 ms each: its plans.
    static func plans(
        _ costs: inout StageCosts, cost: Double, noise: Double, requests: Int, _ random: inout SeededRandom
    ) -> [StagePlan] {
        func sample(_ share: Double, _ random: inout SeededRandom) -> UInt64 {
            UInt64(cost * share * 1e6 * (1 + Double.random(in: -noise...noise, using: &random)))
        }
        return (0..<requests).map { _ in
            let planned = costs.plan(
                events: 64, sequenced: 500, ranked: 500, remaining: 10 * Self.millisecond)
            let retrieved = sample(0.1, &random)
            if planned == .full { costs.prefill.learn(nanoseconds: sample(0.3, &random), units: 64) }
            if planned < .popular { costs.retrieve.learn(nanoseconds: retrieved, units: 1) }
            let spent = UInt64(cost * (planned == .full ? 0.4 : 0.1) * 1e6)
            let plan =
                planned == .popular
                ? planned
                : costs.replan(
                    planned, sequenced: 500, ranked: 500,
                    remaining: 10 * Self.millisecond > spent ? 10 * Self.millisecond - spent : 0)
            if plan == .full { costs.sequence.learn(nanoseconds: sample(0.3, &random), units: 500) }
            if plan <= .withoutSequence { costs.rank.learn(nanoseconds: sample(0.25, &random), units: 500) }
            costs.tail.learn(nanoseconds: sample(0.05, &random), units: 1)
            if plan > .full { costs.noteSkipped(by: plan) }
            return plan
        }
    }

    static func changes(_ plans: [StagePlan]) -> Int { zip(plans, plans.dropFirst()).count { $0 != $1 } }

    @Test(arguments: [0.5, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 10, 50])
    func `answers to a constant cost change seldom, whatever it is`(ratio: Double) {
        for seed in 1...20 as ClosedRange<UInt64> {
            var random = SeededRandom(seed)
            var costs = StageCosts()
            let plans = Self.plans(&costs, cost: 10 * ratio, noise: 0.15, requests: 3000, &random)
            for start in [0, 1000, 2000] {
                #expect(Self.changes(Array(plans[start..<start + 1000])) <= 40)
            }
            if ratio <= 0.8 { #expect(plans.allSatisfy { $0 == .full }) }
            // Nothing is given up for good: a rung that is left is tried again within its longest interval.
            let usual = plans.suffix(1000).max() ?? .full
            if usual > .full {
                #expect((2..<60).contains(plans.suffix(2500).count { $0 < usual }) || ratio < 1.2)
            }
        }
    }

    @Test(arguments: [1.5, 3, 20, 1000])
    func `when the cost drops the full answer is back within a bounded number of requests`(ratio: Double) {
        for before in [10, 100, 1000, 5000] {
            var random = SeededRandom(9)
            var costs = StageCosts()
            _ = Self.plans(&costs, cost: 10 * ratio, noise: 0.1, requests: before, &random)
            let plans = Self.plans(&costs, cost: 5, noise: 0.1, requests: 4000, &random)
            // At worst one interval a rung.
            #expect((plans.firstIndex(of: .full) ?? 9999) <= 3 * StageCosts.probeIntervalMaximum)
            #expect(plans.suffix(900).allSatisfy { $0 == .full })
        }
    }

    @Test func `a rung that was left is entered again only with a quarter to spare`() {
        var costs = StageCosts()
        costs.rank.learn(nanoseconds: 8 * Self.millisecond, units: 100)
        func plan(_ milliseconds: Double) -> StagePlan {
            costs.plan(events: 0, sequenced: 0, ranked: 100, remaining: UInt64(milliseconds * 1e6))
        }
        let plans = [8, 7.9, 8, 9.9, 10, 8, 7.9, 100, 8].map { plan($0) }
        #expect(plans == [.full, .retrieval, .retrieval, .retrieval, .full, .full, .retrieval, .full, .full])
    }

    @Test func `requests without a history do not end the wait of those with one, nor wait themselves`() {
        var costs = StageCosts()
        costs.sequence.learn(nanoseconds: 20 * Self.millisecond, units: 100)
        costs.rank.learn(nanoseconds: Self.millisecond, units: 100)
        var tries = 0
        for _ in 0..<130 {
            let plain = costs.plan(events: 0, sequenced: 0, ranked: 100, remaining: 10 * Self.millisecond)
            let whole = costs.plan(events: 9, sequenced: 100, ranked: 100, remaining: 10 * Self.millisecond)
            #expect(plain == .full)
            if whole == .full { tries += 1 }
        }
        #expect(tries == 1)
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
                costs.noteSkipped(by: plan)
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
