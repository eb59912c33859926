/// Values of which each is used by one thread at a time, made where none is idle.
///
/// For scratch memory that belongs to something shared: what is on the shelf goes with the shelf, and no
/// thread keeps any. One short lock to borrow, one to give back; the value given back last is lent next.
public final class LendingShelf<Value>: @unchecked Sendable {
    // Sendable because `idle` is touched only while `monitor` is locked, and a value is either in it or with
    // one borrower.
    private let monitor = Monitor()
    private var idle: [Value] = []
    private let make: @Sendable () -> Value

    /// Most idle values; one more is dropped when it comes back.
    public let capacity: Int

    /// An empty shelf. `make` gives a value that nothing else refers to; any thread.
    public init(capacity: Int, make: @escaping @Sendable () -> Value) {
        self.capacity = capacity
        self.make = make
    }

    /// Makes values up to the capacity and shows each to `prepare`; before others borrow.
    public func fill<E: Error>(_ prepare: (Value) throws(E) -> Void) throws(E) {
        var made: [Value] = []
        for _ in 0..<capacity {
            let value = make()
            try prepare(value)
            made.append(value)
        }
        monitor.lock()
        idle = made
        monitor.unlock()
    }

    /// Lends a value for the time of `body`, which must not keep it.
    public func lend<Result: Sendable, E: Error>(_ body: (Value) throws(E) -> Result) throws(E) -> Result {
        let value = take() ?? make()
        defer { giveBack(value) }
        return try body(value)
    }

    private func take() -> Value? {
        monitor.lock()
        defer { monitor.unlock() }
        return idle.popLast()
    }

    private func giveBack(_ value: Value) {
        monitor.lock()
        defer { monitor.unlock() }
        if idle.count < capacity { idle.append(value) }
    }
}
