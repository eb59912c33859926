/// A value that only one thread at a time can touch.
///
/// A pthread mutex and not `Synchronization.Mutex`: the thread sanitizer understands it.
public final class Lock<Value: Sendable>: @unchecked Sendable {
    // Sendable because `value` is touched only while `monitor` is locked.
    private let monitor = Monitor()
    private var value: Value

    /// A lock around `value`.
    public init(_ value: Value) { self.value = value }

    /// Runs `body` with the value while no other thread can; keep it short, never lock twice.
    public func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        monitor.lock()
        defer { monitor.unlock() }
        return try body(&value)
    }

    /// Runs `body` with the value, again after every `wakeAll`, until it gives a result; nil when it has
    /// given none by the monotonic `deadline` in nanoseconds. Keep `body` short, never lock twice.
    public func wait<Result>(until deadline: UInt64, for body: (inout Value) -> Result?) -> Result? {
        monitor.lock()
        defer { monitor.unlock() }
        while true {
            if let result = body(&value) { return result }
            guard monitor.wait(until: deadline) else { return body(&value) }
        }
    }

    /// Runs `body` with the value, again after every wake-up, until it gives a result. Keep `body` short,
    /// never lock twice.
    public func wait<Result>(for body: (inout Value) -> Result?) -> Result {
        monitor.lock()
        defer { monitor.unlock() }
        while true {
            if let result = body(&value) { return result }
            monitor.wait()
        }
    }

    /// Lets one thread in `wait` look again: where any of those that wait will do.
    public func wakeOne() { monitor.signal() }

    /// Lets all threads in `wait` look again.
    public func wakeAll() { monitor.broadcast() }
}
