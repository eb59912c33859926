import Threading

/// What became of requests for the compute threads, by lane.
final class AdmissionMetrics: Sendable {
    private let admittedCounts = Lane.allCases.map { _ in Counter() }
    private let refusedCounts = Lane.allCases.map { _ in AdmissionRefusal.allCases.map { _ in Counter() } }
    /// Seconds from the offer until a thread took the work, or nobody did.
    let waits = Lane.allCases.map { _ in Histogram(bounds: Histogram.secondsBounds) }
    /// Answers that left stages out because others were waiting, not for want of time.
    let relieved = Counter()

    func admitted(_ lane: Lane) -> Counter { admittedCounts[lane.index] }

    func refused(_ lane: Lane, _ reason: AdmissionRefusal) -> Counter {
        refusedCounts[lane.index][AdmissionRefusal.allCases.firstIndex(of: reason) ?? 0]
    }

    /// Notes how long a job has waited.
    func record<Element: Sendable>(_ entry: WaitingLine<Element>.Entry) {
        let waited = MonotonicClock.nanoseconds &- entry.queuedAt
        waits[entry.work.kind.lane.index].record(nanoseconds: waited)
    }
}
