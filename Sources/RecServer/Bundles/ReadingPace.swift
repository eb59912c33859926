import Threading

/// Keeps reading below a rate, so that a load leaves the disk and the memory bus to those who serve.
final class ReadingPace {
    private let bytesPerSecond: Int
    private let start = MonotonicClock.nanoseconds
    private let never = Latch(count: 1)

    /// - Parameter bytesPerSecond: 0 for no limit.
    init(bytesPerSecond: Int) { self.bytesPerSecond = bytesPerSecond }

    /// Waits until `byteCount` bytes since the beginning are not too many.
    func wait(after byteCount: Int) {
        guard bytesPerSecond > 0 else { return }
        let due = Duration.seconds(1) * (Double(byteCount) / Double(bytesPerSecond))
        let passed = Duration.nanoseconds(Int64(clamping: MonotonicClock.nanoseconds &- start))
        if due > passed { _ = never.wait(within: due - passed) }
    }
}
