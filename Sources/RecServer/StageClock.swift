import Threading

/// Measures the stages of one request, one after the other.
struct StageClock {
    private(set) var durations: [(stage: Metrics.Stage, nanoseconds: UInt64)] = []
    private var last: UInt64

    init(start: UInt64) { last = start }

    /// Ends a stage, or a part of it: the time since the last end was its own.
    @discardableResult
    mutating func end(_ stage: Metrics.Stage) -> UInt64 {
        let now = MonotonicClock.nanoseconds
        // A stage that runs in two parts, as the sequence model around retrieval, is one stage.
        if let index = durations.firstIndex(where: { $0.stage == stage }) {
            durations[index].nanoseconds &+= now &- last
        } else {
            durations.append((stage, now &- last))
        }
        last = now
        return now
    }

    /// Nanoseconds of a stage so far.
    func duration(of stage: Metrics.Stage) -> UInt64 {
        durations.first { $0.stage == stage }?.nanoseconds ?? 0
    }

    /// Adds the stages of a part that was measured on its own, up to now.
    mutating func add(_ part: StageClock) {
        for (stage, nanoseconds) in part.durations {
            if let index = durations.firstIndex(where: { $0.stage == stage }) {
                durations[index].nanoseconds &+= nanoseconds
            } else {
                durations.append((stage, nanoseconds))
            }
        }
        last = MonotonicClock.nanoseconds
    }

    /// The value of a `Server-Timing` header, milliseconds (W3C Server Timing).
    var header: String {
        durations.map { "\($0.stage.rawValue);dur=\(Self.milliseconds($0.nanoseconds))" }.joined(
            separator: ", ")
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> String {
        let micro = nanoseconds / 1000
        let fraction = String(micro % 1000)
        return "\(micro / 1000)." + String(repeating: "0", count: 3 - fraction.count) + fraction
    }
}
