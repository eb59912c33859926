import CLinux

/// The time that never goes back: nanoseconds since boot, unmoved by changes of the wall clock.
public enum MonotonicClock {
    /// Nanoseconds since boot. About 20 ns a call; no system call.
    public static var nanoseconds: UInt64 { CLinux_monotonic_nanoseconds() }

    /// Time since boot.
    public static var now: Duration { .nanoseconds(Int64(clamping: nanoseconds)) }
}

/// The time of day, for what people and other machines read; never for measuring.
public enum WallClock {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    public static var nanoseconds: Int64 { CLinux_wall_nanoseconds() }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    public static var seconds: Int64 { CLinux_wall_nanoseconds() / 1_000_000_000 }
}

extension Duration {
    /// Whole nanoseconds, at least 0 and at most `UInt64.max`.
    public var nanosecondsClamped: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, carry) = product.addingReportingOverflow(UInt64(attoseconds) / 1_000_000_000)
        return overflow || carry ? .max : sum
    }
}
