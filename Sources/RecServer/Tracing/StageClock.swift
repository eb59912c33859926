import Ranking
import Threading

/// Measures the stages of one request, one after the other, and notes what came of them.
struct StageClock: Sendable {
    /// A stage, or a piece of it, from its beginning to its end in monotonic nanoseconds.
    struct Part: Sendable {
        let stage: Metrics.Stage
        let start: UInt64
        let end: UInt64
    }

    private(set) var durations: [(stage: Metrics.Stage, nanoseconds: UInt64)] = []
    /// When each stage ran, where that is asked for; of a long batch the first ones.
    private(set) var parts: [Part] = []
    let keepsParts: Bool
    /// The model that answered, for traces; of a batch the last line's, as the two below.
    var modelVersion: String?
    var cache: HistoryOutcome?
    var degraded: [DegradationStep] = []
    private var last: UInt64

    /// Most parts that are kept.
    private static let partsMaximum = 64

    init(start: UInt64, keepsParts: Bool = false) {
        last = start
        self.keepsParts = keepsParts
    }

    /// Ends a stage, or a part of it: the time since the last end was its own.
    @discardableResult
    mutating func end(_ stage: Metrics.Stage) -> UInt64 {
        let now = MonotonicClock.nanoseconds
        if keepsParts, parts.count < Self.partsMaximum {
            parts.append(Part(stage: stage, start: last, end: now))
        }
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
        parts += part.parts.prefix(Self.partsMaximum - parts.count)
        (modelVersion, cache, degraded) = (part.modelVersion, part.cache, part.degraded)
        last = MonotonicClock.nanoseconds
    }

    /// The nanoseconds of a stage; nil when it did not run.
    func nanoseconds(_ stage: Metrics.Stage) -> UInt64? {
        durations.first { $0.stage == stage }?.nanoseconds
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
