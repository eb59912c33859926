/// First in, first out, with a maximum: many threads offer, many take.
///
/// Loops offer and never wait; compute threads take and wait. O(1), one lock per call, no allocation after
/// init.
public final class BoundedQueue<Element: Sendable>: @unchecked Sendable {
    // Sendable because everything mutable is touched only while `monitor` is locked.
    private let monitor = Monitor()
    private var ring: [Element?]
    private var first = 0
    private var used = 0
    private var closed = false

    /// The most elements the queue holds.
    public let capacity: Int

    /// An empty queue for at most `capacity` (≥ 1) elements.
    public init(capacity: Int) {
        precondition(capacity >= 1, "capacity \(capacity) is below 1")
        self.capacity = capacity
        ring = Array(repeating: nil, count: capacity)
    }

    /// Elements waiting now.
    public var count: Int {
        monitor.lock()
        defer { monitor.unlock() }
        return used
    }

    /// True once `close` has been called.
    public var isClosed: Bool {
        monitor.lock()
        defer { monitor.unlock() }
        return closed
    }

    /// Appends `element`, or refuses with false when the queue is full or closed; never waits.
    public func offer(_ element: Element) -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        guard !closed, used < capacity else { return false }
        ring[(first + used) % capacity] = element
        used += 1
        monitor.signal()
        return true
    }

    /// The oldest element; waits for one. Nil once the queue is closed and empty.
    public func take() -> Element? {
        monitor.lock()
        defer { monitor.unlock() }
        while used == 0 {
            if closed { return nil }
            monitor.wait()
        }
        return removeFirst()
    }

    /// The oldest element; waits for one until the monotonic `deadline` in nanoseconds. Nil when none has
    /// come, or once the queue is closed and empty.
    public func take(until deadline: UInt64) -> Element? {
        monitor.lock()
        defer { monitor.unlock() }
        while used == 0 {
            if closed { return nil }
            guard monitor.wait(until: deadline) else { break }
        }
        return used == 0 ? nil : removeFirst()
    }

    /// The oldest element, or nil when there is none now; never waits.
    public func takeIfAny() -> Element? {
        monitor.lock()
        defer { monitor.unlock() }
        return used == 0 ? nil : removeFirst()
    }

    /// Refuses further offers; takers get what is left and then nil.
    public func close() {
        monitor.lock()
        defer { monitor.unlock() }
        closed = true
        monitor.broadcast()
    }

    private func removeFirst() -> Element? {
        let element = ring[first]
        ring[first] = nil
        first = (first + 1) % capacity
        used -= 1
        return element
    }
}
