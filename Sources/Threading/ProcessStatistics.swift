import CLinux

/// What the kernel says about this process; for metrics and start-up checks.
public enum ProcessStatistics {
    /// Memory resident now, in bytes; nil when the kernel does not say. Reads /proc: a few microseconds.
    public static var residentByteCount: Int? {
        let bytes = CLinux_resident_bytes()
        return bytes < 0 ? nil : Int(bytes)
    }

    /// Processor time of all threads since the start.
    public static var processorTime: Duration { .nanoseconds(CLinux_cpu_nanoseconds()) }

    /// Descriptors open now; nil when the kernel does not say. O(descriptors).
    public static var openFileCount: Int? {
        let count = CLinux_open_file_count()
        return count < 0 ? nil : Int(count)
    }

    /// The kernel's number for this process.
    public static var processID: Int32 { CLinux_process_id() }

    /// Allows as many open files as the system lets this process have; returns that number, nil when it
    /// fails.
    public static func raiseFileLimit() -> Int? {
        let limit = CLinux_raise_file_limit()
        return limit < 0 ? nil : Int(limit)
    }
}
