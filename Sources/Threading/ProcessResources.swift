internal import CLinux
internal import Glibc

/// What the operating system knows about this process.
public enum ProcessResources {
    /// Resident memory in bytes, 0 when unknown.
    public static var residentBytes: Int { Int(max(0, CLinux_resident_bytes())) }

    /// User and system time spent, in nanoseconds.
    public static var cpuNanoseconds: UInt64 { UInt64(max(0, CLinux_cpu_nanoseconds())) }

    /// Open descriptors.
    public static var openFiles: Int { Int(max(0, CLinux_open_file_count())) }

    /// The value of an environment variable. Read at start, before other threads run.
    public static func environment(_ name: String) -> String? {
        // SAFETY: getenv gives a NUL-terminated string or null; nothing in this process changes the environment.
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }
}

/// The standard streams, written whole lines at a time.
public enum StandardStream: Int32, Sendable {
    case output = 1, error = 2

    /// Whether a person may be reading.
    public var isTerminal: Bool { isatty(rawValue) == 1 }

    /// Writes all bytes; what the other side no longer takes is lost.
    public func write(_ bytes: [UInt8]) {
        var done = 0
        while done < bytes.count {
            // SAFETY: the pointer is valid for `bytes.count` bytes during the call.
            let put = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(rawValue, $0.baseAddress.map { unsafe $0 + done }, $0.count - done) }
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { return }
            done += put
        }
    }

    /// Writes a text.
    public func write(_ text: String) { write(Array(text.utf8)) }
}
