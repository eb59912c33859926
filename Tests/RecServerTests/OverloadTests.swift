import TestSupport
import Testing

@testable import RecServer

/// What the rules make of load, simulated: two threads, a millisecond a request, so that 2,000 a second are
/// the capacity.
@Suite struct OverloadTests {
    typealias Simulation = AdmissionSimulation
    static let capacity = 2000.0

    struct Result {
        var answered = 0
        var full = 0
        var refused = 0
        var expired = 0
        /// Milliseconds until the answer, ascending.
        var latencies: [Double] = []
        var toldLatest = 0.0

        func percentile(_ share: Double) -> Double {
            latencies.isEmpty ? 0 : latencies[min(latencies.count - 1, Int(share * Double(latencies.count)))]
        }
    }

    /// What became of the requests that came in a span of seconds.
    static func result(
        _ simulation: Simulation, _ requests: [Simulation.Request], from: Double, to: Double,
        kind: WorkKind? = nil
    ) -> Result {
        var result = Result()
        for (request, outcome) in zip(requests, simulation.outcomes) {
            let time = Double(request.arrivesAt) / 1e9
            guard (from..<to).contains(time), kind.map({ $0 == request.work.kind }) ?? true else { continue }
            guard let outcome else {
                Issue.record("a request without an end")
                continue
            }
            let told = Double(outcome.toldAfter) / 1e6
            switch outcome.kind {
            case .answered(let plan):
                result.answered += 1
                if plan == .full { result.full += 1 }
                result.latencies.append(told)
            case .refused: result.refused += 1
            case .expired: result.expired += 1
            case .gone: continue
            }
            if case .answered = outcome.kind { continue }
            result.toldLatest = max(result.toldLatest, told)
        }
        result.latencies.sort()
        return result
    }

    @Test(arguments: [1.0, 1.1, 1.5, 2, 4, 10])
    func `goodput is flat from one to ten times the capacity`(load: Double) {
        var simulation = Simulation(AdmissionLinesTests.policy(), seed: 3)
        let requests = simulation.poisson(rate: load * Self.capacity, seconds: 2, relieves: false)
        simulation.run(requests)
        let steady = Self.result(simulation, requests, from: 1, to: 2)
        #expect(Double(steady.answered) >= 0.95 * Self.capacity)
        // In time, and never told late what was known at once.
        #expect(steady.percentile(1) <= 100)
        #expect(steady.expired == 0 && steady.toldLatest <= 1)
        // Where much is refused the queue is short: nobody waits for nothing.
        if load >= 1.5 { #expect(steady.percentile(0.99) <= 20) }
    }

    @Test(arguments: [1.2, 1.5, 4])
    func `lesser answers come before refusals`(load: Double) {
        var simulation = Simulation(AdmissionLinesTests.policy(), seed: 5)
        let requests = simulation.poisson(rate: load * Self.capacity, seconds: 2)
        simulation.run(requests)
        let steady = Self.result(simulation, requests, from: 1, to: 2)
        // Bursts still meet a full queue where hardly more than popular lists can be had.
        #expect(Double(steady.refused + steady.expired) <= (load < 2 ? 0 : 0.05) * Double(steady.answered))
        #expect(steady.percentile(1) <= 100)
        // No more is left out than the load asks for: with the dearest rung that could carry it alone.
        if load < 1.6 { #expect(Double(steady.full) >= 0.15 * Double(steady.answered)) }
    }

    @Test(arguments: [0.3, 0.7, 0.9])
    func `below the capacity nobody is refused, nothing is left out, and order is kept`(load: Double) {
        var simulation = Simulation(AdmissionLinesTests.policy(), seed: 2)
        let requests = simulation.poisson(rate: load * Self.capacity, seconds: 3)
        simulation.run(requests)
        let all = Self.result(simulation, requests, from: 0, to: 3)
        #expect(all.answered == requests.count && all.full == requests.count)
        // One line for both threads: what comes first is begun first.
        let starts = zip(requests, simulation.outcomes).map { request, outcome in
            request.arrivesAt + (outcome?.toldAfter ?? 0) - request.service
        }
        #expect(zip(starts, starts.dropFirst()).allSatisfy { $0 <= $1 + 1 })
    }

    @Test(arguments: [10.0])
    func `when the load ends the queue is back within its limit, and nothing stays refused`(load: Double) {
        for relieves in [true, false] {
            var simulation = Simulation(AdmissionLinesTests.policy(), seed: 4)
            var requests = simulation.poisson(rate: load * Self.capacity, seconds: 1, relieves: relieves)
            requests += simulation.poisson(
                rate: 0.5 * Self.capacity, from: Simulation.second, seconds: 1, relieves: relieves)
            simulation.run(requests)
            let after = Self.result(simulation, requests, from: 1.1, to: 2)
            #expect(after.refused == 0 && after.expired == 0 && after.full == after.answered)
            #expect(after.percentile(0.99) <= 6)
        }
    }

    @Test func `clients who come back at once do not keep an overload alive`() {
        // Half the capacity, a pause of half a second, and everyone who is refused asks again, four times.
        var simulation = Simulation(AdmissionLinesTests.policy(), seed: 6)
        simulation.slowdown = (Simulation.second, 3 * Simulation.second / 2, 40)
        var requests = simulation.poisson(rate: 0.5 * Self.capacity, seconds: 4, relieves: false)
        for _ in 0..<4 {
            var probe = simulation
            probe.run(requests)
            let again = zip(requests, probe.outcomes).compactMap { request, outcome in
                guard let outcome, outcome.kind == .refused || outcome.kind == .expired else {
                    return nil as Simulation.Request?
                }
                var request = request
                request.arrivesAt += outcome.toldAfter + 10 * Simulation.millisecond
                return request
            }
            requests = (requests + again).sorted { $0.arrivesAt < $1.arrivesAt }
        }
        simulation.run(requests)
        let after = Self.result(simulation, requests, from: 2, to: 4)
        #expect(after.refused == 0 && after.expired == 0)
    }

    @Test(arguments: [5, 10, 20] as [UInt64])
    func `short deadlines are kept beside long ones at one and a half times the capacity`(deadline: UInt64) {
        for relieves in [true, false] {
            var simulation = Simulation(AdmissionLinesTests.policy(), seed: 7)
            let short = Work(.recommend, deadline: deadline * Simulation.millisecond)
            var requests = simulation.poisson(
                rate: 0.75 * Self.capacity, seconds: 2, work: short, relieves: relieves)
            requests += simulation.poisson(rate: 0.75 * Self.capacity, seconds: 2, relieves: relieves)
            requests.sort { $0.arrivesAt < $1.arrivesAt }
            simulation.run(requests)
            for (request, outcome) in zip(requests, simulation.outcomes) where request.work.deadline != nil {
                #expect(outcome?.toldAfter ?? .max <= (deadline + 2) * Simulation.millisecond)
            }
        }
    }

    @Test func `events in long lists and recommendations leave each other their shares`() {
        var simulation = Simulation(AdmissionLinesTests.policy(), seed: 9)
        // Either alone is twice the capacity.
        var requests = simulation.poisson(rate: 2 * Self.capacity, seconds: 4, relieves: false)
        requests += simulation.poisson(
            rate: 2 * Self.capacity / 4, seconds: 4, mean: 4 * Simulation.millisecond,
            work: Work(.events, byteCount: 50_000), relieves: false)
        requests.sort { $0.arrivesAt < $1.arrivesAt }
        simulation.run(requests)
        let answers = Self.result(simulation, requests, from: 2, to: 4, kind: .recommend)
        let changes = Self.result(simulation, requests, from: 2, to: 4, kind: .events)
        // Two to one by time.
        #expect(abs(Double(answers.answered) / 2 - Self.capacity * 2 / 3) <= 0.05 * Self.capacity)
        #expect(abs(Double(changes.answered) / 2 - Self.capacity / 3 / 4) <= 0.05 * Self.capacity / 4)
        #expect(answers.percentile(0.99) <= 100)
        #expect(changes.percentile(0.99) <= 1000)
    }

    @Test func `few events wait little although recommendations overload, and the other way round`() {
        for isFew in [WorkKind.events, .recommend] {
            var simulation = Simulation(AdmissionLinesTests.policy(), seed: 10)
            let few = Work(isFew, byteCount: 1000)
            let many = Work(isFew == .events ? .recommend : .events, byteCount: 1000)
            var requests = simulation.poisson(rate: 200, seconds: 2, work: few, relieves: false)
            requests += simulation.poisson(rate: 4 * Self.capacity, seconds: 2, work: many, relieves: false)
            requests.sort { $0.arrivesAt < $1.arrivesAt }
            simulation.run(requests)
            let result = Self.result(simulation, requests, from: 1, to: 2, kind: isFew)
            #expect(result.refused == 0 && result.expired == 0)
            #expect(result.percentile(0.99) <= 10)
        }
    }

    @Test func `those who have left cost nothing`() {
        var simulation = Simulation(AdmissionLinesTests.policy(), seed: 11)
        var requests = simulation.poisson(rate: 1.6 * Self.capacity, seconds: 3, relieves: false)
        // Every second client leaves after two milliseconds.
        for index in requests.indices where index % 2 == 0 {
            requests[index].leavesAt = requests[index].arrivesAt + 2 * Simulation.millisecond
        }
        simulation.run(requests)
        let stayed = requests.indices.filter { $0 % 2 == 1 && requests[$0].arrivesAt > Simulation.second }
        let answered = stayed.count { index in
            if case .answered = simulation.outcomes[index]?.kind { true } else { false }
        }
        #expect(answered == stayed.count)
    }

    @Test func `when every thread hangs, those who wait are told in time`() {
        var simulation = Simulation(AdmissionLinesTests.policy(), seed: 12)
        simulation.slowdown = (Simulation.second, 2 * Simulation.second, 1000)
        let requests = simulation.poisson(rate: 0.7 * Self.capacity, seconds: 3, relieves: false)
        simulation.run(requests)
        for outcome in simulation.outcomes {
            guard let outcome, outcome.kind == .expired || outcome.kind == .refused else { continue }
            #expect(outcome.toldAfter <= 100 * Simulation.millisecond)
        }
        let after = Self.result(simulation, requests, from: 2.9, to: 3)
        #expect(after.refused == 0 || after.answered > 0)
    }
}
