import CLinux

/// How much the kernel prefers the calling thread.
public enum ThreadPriority {
    /// The calling thread gives way from here on to every other thread that has work, on processors and on
    /// disks; threads it starts inherit that. There is no way back without privileges.
    ///
    /// For work beside serving. Such a thread must not hold a lock for long that others wait for.
    public static func lower() { CLinux_thread_lower_priority() }

    /// The calling thread keeps its share of the processors, but in long slices, and whoever wakes up goes
    /// before it: for one that has much to do beside threads that have little and are waited for.
    public static func useLongSlices() { CLinux_thread_long_slices() }

    /// The calling thread gets less of a busy processor from here on, `niceness` (0 to 19) steps of nice;
    /// threads of a smaller one that wake up go first. Threads it starts inherit that.
    public static func yield(by niceness: Int) { CLinux_thread_yield_by(Int32(clamping: niceness)) }
}
