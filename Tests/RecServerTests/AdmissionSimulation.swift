import Foundation
import TestSupport

@testable import RecServer

/// A server with compute threads behind `AdmissionLines`, in one thread and with a clock of its own: arrivals
/// and services are events in the order of their times.
struct AdmissionSimulation {
    typealias Lines = AdmissionLines<Int>

    struct Request {
        var arrivesAt: UInt64
        var work: Work
        /// Nanoseconds of the full answer, and for each rung of the ladder the share of it that is left.
        var service: UInt64
        var relieves = true
        /// When the client leaves without its answer; never by default.
        var leavesAt = UInt64.max
    }

    struct Outcome {
        enum Kind: Equatable { case answered(StagePlan), refused, expired, gone }
        var kind: Kind
        /// Nanoseconds from the arrival until the client knows.
        var toldAfter: UInt64
    }

    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000
    /// Of the full answer's time.
    static let rungCosts: [Double] = [1, 0.6, 0.4, 0.15]

    private(set) var outcomes: [Outcome?] = []
    private(set) var lines: Lines
    /// Changes of a thread's service time, as a pause of the machine: from, until, factor.
    var slowdown: (from: UInt64, until: UInt64, factor: Double)?
    private var random: SeededRandom

    init(_ policy: AdmissionPolicy, seed: UInt64) {
        lines = Lines(policy)
        random = SeededRandom(seed)
    }

    /// Runs all requests, which come in the order of their times, to their ends.
    mutating func run(_ requests: [Request]) {
        outcomes = Array(repeating: nil, count: requests.count)
        var busyUntil = [UInt64?](repeating: nil, count: lines.policy.threads)
        var sweepAt = UInt64.max
        var next = 0
        while true {
            let finish = busyUntil.indices.filter { busyUntil[$0] != nil }.min {
                busyUntil[$0] ?? 0 < busyUntil[$1] ?? 0
            }
            let times = [
                next < requests.count ? requests[next].arrivesAt : .max,
                finish.flatMap { busyUntil[$0] } ?? .max, sweepAt,
            ]
            let now = times.min() ?? .max
            if now == .max { return }
            if times[1] == now, let finish {
                busyUntil[finish] = start(on: finish, now, requests)
            } else if times[2] == now {
                var stale: [Lines.Entry] = []
                sweepAt = lines.sweep(now: now, isGone: { requests[$0].leavesAt <= now }, stale: &stale)
                end(stale, now, requests)
            } else {
                let request = requests[next]
                switch lines.offer(next, request.work, now: now) {
                case .admitted(let expiresAt):
                    if let expiresAt { sweepAt = min(sweepAt, expiresAt) }
                    if let idle = busyUntil.firstIndex(of: nil) {
                        busyUntil[idle] = start(on: idle, now, requests)
                    }
                case .refused, .closed: outcomes[next] = Outcome(kind: .refused, toldAfter: 0)
                }
                next += 1
            }
        }
    }

    /// A thread takes its next work; the time when it ends, or nil.
    private mutating func start(on thread: Int, _ now: UInt64, _ requests: [Request]) -> UInt64? {
        var stale: [Lines.Entry] = []
        let taken = lines.take(
            thread: thread, now: now, isGone: { requests[$0].leavesAt <= now }, stale: &stale)
        end(stale, now, requests)
        guard let taken else { return nil }
        let request = requests[taken.entry.element]
        let plan = request.relieves ? taken.relief : .full
        var service = Double(request.service) * Self.rungCosts[plan.rawValue]
        if let slowdown, (slowdown.from..<slowdown.until).contains(now) { service *= slowdown.factor }
        let end = now + UInt64(service)
        outcomes[taken.entry.element] = Outcome(kind: .answered(plan), toldAfter: end - request.arrivesAt)
        return end
    }

    private mutating func end(_ stale: [Lines.Entry], _ now: UInt64, _ requests: [Request]) {
        for entry in stale {
            let request = requests[entry.element]
            outcomes[entry.element] = Outcome(
                kind: request.leavesAt <= now ? .gone : .expired, toldAfter: now - request.arrivesAt)
        }
    }

    /// Requests at `rate` a second with exponential pauses, whose services take `mean` nanoseconds.
    mutating func poisson(
        rate: Double, from: UInt64 = 0, seconds: Double, mean: UInt64 = millisecond,
        work: Work = Work(.recommend), relieves: Bool = true
    ) -> [Request] {
        var time = Double(from)
        let end = time + seconds * 1e9
        var requests: [Request] = []
        while true {
            time -= log(Double.random(in: 1e-12..<1, using: &random)) / rate * 1e9
            guard time < end else { return requests }
            // Half to one and a half times the mean.
            let service = Double(mean) * Double.random(in: 0.5..<1.5, using: &random)
            requests.append(
                Request(
                    arrivesAt: UInt64(time), work: work, service: UInt64(service), relieves: relieves))
        }
    }
}
