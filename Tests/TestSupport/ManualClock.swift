import Synchronization

/// A clock that moves only when told to.
public final class ManualClock: Sendable {
    private let time: Atomic<UInt64>

    /// A clock that shows `nanoseconds`.
    public init(nanoseconds: UInt64 = 1_000_000_000) { time = Atomic(nanoseconds) }

    /// What the clock shows.
    public var nanoseconds: UInt64 { time.load(ordering: .sequentiallyConsistent) }

    /// Moves the clock forward.
    public func advance(by duration: Duration) {
        let (seconds, attoseconds) = duration.components
        precondition(seconds >= 0 && attoseconds >= 0, "time does not go back: \(duration)")
        let step = UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
        time.wrappingAdd(step, ordering: .sequentiallyConsistent)
    }
}
