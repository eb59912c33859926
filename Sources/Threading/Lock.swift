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
}
