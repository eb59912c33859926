internal import Threading

/// Times of events and ages of what is kept, unharmed by a wall clock that is set wrong while the daemon
/// runs.
final class StateClock: Sendable {
    private let wall: @Sendable () -> Double
    private let monotonic: @Sendable () -> Double
    private let startWall: Double
    private let startMonotonic: Double
    private let last: Lock<(stamp: Double, monotonic: Double)>

    /// - Parameters:
    ///   - wall: seconds since 1970; the system's unless given.
    ///   - monotonic: seconds that never go back.
    init(
        wall: @escaping @Sendable () -> Double = { Double(WallClock.nanoseconds) / 1e9 },
        monotonic: @escaping @Sendable () -> Double = { Double(MonotonicClock.nanoseconds) / 1e9 }
    ) {
        self.wall = wall
        self.monotonic = monotonic
        startWall = wall()
        startMonotonic = monotonic()
        last = Lock((startWall, startMonotonic))
    }

    /// The time for what is dropped by age: a clock that leaps a year ahead must not cost a year of
    /// histories, so after the start only time that has passed counts.
    var age: Double { startWall + (monotonic() - startMonotonic) }

    /// The time for what happens now: the wall clock's, but never before an earlier answer; while the wall
    /// clock is behind it goes on at its own pace.
    var stamp: Double {
        last.withLock { last in
            let (now, wall) = (monotonic(), wall())
            let stamp = wall >= last.stamp ? wall : last.stamp + max(now - last.monotonic, 0)
            last = (stamp, now)
            return stamp
        }
    }
}
