import CLinux

/// How much the kernel prefers the calling thread.
public enum ThreadPriority {
    /// The calling thread gives way from here on to every other thread that has work, on processors and on
    /// disks; threads it starts inherit that. There is no way back without privileges.
    ///
    /// For work beside serving. Such a thread must not hold a lock for long that others wait for.
    public static func lower() { CLinux_thread_lower_priority() }
}
