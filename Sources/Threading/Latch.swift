/// Opens once a number of events has happened; threads wait for it with a limit.
public final class Latch: @unchecked Sendable {
    // Sendable because `remaining` is touched only while `monitor` is locked.
    private let monitor = Monitor()
    private var remaining: Int

    /// A latch that opens after `count` calls of `countDown`; 0 is open at once.
    public init(count: Int) { remaining = max(count, 0) }

    /// One event has happened; any thread.
    public func countDown() {
        monitor.lock()
        defer { monitor.unlock() }
        if remaining > 0 { remaining -= 1 }
        if remaining == 0 { monitor.broadcast() }
    }

    /// Waits until the latch is open or `limit` has passed; true when it is open.
    public func wait(within limit: Duration) -> Bool {
        let (deadline, overflow) = MonotonicClock.nanoseconds.addingReportingOverflow(
            limit.nanosecondsClamped)
        monitor.lock()
        defer { monitor.unlock() }
        while remaining > 0 {
            if overflow {
                monitor.wait()
            } else if !monitor.wait(until: deadline) {
                break
            }
        }
        return remaining == 0
    }
}
