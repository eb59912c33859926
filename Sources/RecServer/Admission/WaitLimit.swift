/// How long a lane's work may wait while some is refused: CoDel's idea, applied to who is let in.
///
/// A queue that absorbs a burst may be as long as deadlines allow. One that stays long while requests are
/// refused makes everybody wait and answers nobody more. So after an interval in which requests were refused
/// and nobody waited less than a quarter of the target, the limit is halved, down to the target; after any
/// other interval it is doubled, until it is none.
struct WaitLimit: Sendable {
    /// Nanoseconds.
    static let interval: UInt64 = 100_000_000

    /// Nanoseconds; `UInt64.max` for none.
    private(set) var value = UInt64.max
    private var intervalEnd: UInt64 = 0
    private var refusedCount = 0
    private var leastWait = UInt64.max

    /// Whether requests are refused for the sake of a short queue.
    var isHeld: Bool { value != .max }

    mutating func noteRefusal() { refusedCount += 1 }
    mutating func noteWait(_ nanoseconds: UInt64) { leastWait = min(leastWait, nanoseconds) }

    /// Ends intervals that are over.
    /// - Parameters:
    ///   - target: the least limit.
    ///   - patience: how long deadlines let a request wait.
    mutating func advance(to now: UInt64, target: UInt64, patience: UInt64) {
        guard now >= intervalEnd else { return }
        if now - intervalEnd > Self.interval {
            // Nothing happened meanwhile.
            value = .max
        } else if refusedCount > 0, leastWait > target / 4 {
            value = max(target, min(value, patience) / 2)
        } else if isHeld {
            value = value >= patience / 2 ? .max : value * 2
        }
        intervalEnd = now &+ Self.interval
        refusedCount = 0
        leastWait = .max
    }
}
