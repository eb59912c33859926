import CLinux

/// A TCP connection to a service, for a thread that may wait.
public struct StreamConnection: ~Copyable {
    private let descriptor: Int32

    /// Connects to `host`, an address or a name that is looked up.
    /// - Parameter limit: for connecting, and then for each read and each write.
    public init(host: String, port: UInt16, within limit: Duration) throws(ThreadingError) {
        let milliseconds = Int32(clamping: max(1, limit.nanosecondsClamped / 1_000_000))
        // SAFETY: the callee only reads the NUL-terminated string during the call.
        descriptor = unsafe CLinux_connect_tcp(host, port, milliseconds)
        guard descriptor >= 0 else { throw .system(call: "connect", errno: -descriptor) }
    }

    deinit { _ = CLinux_close(descriptor) }

    /// Sends all bytes.
    public func send(_ bytes: [UInt8]) throws(ThreadingError) {
        var done = 0
        while done < bytes.count {
            // SAFETY: the kernel reads the bytes from `done` on, all inside the array, during the call.
            let put = unsafe bytes.withUnsafeBytes { buffer -> Int64 in
                guard let base = buffer.baseAddress else { return 0 }
                return unsafe CLinux_write(descriptor, base + done, buffer.count - done)
            }
            guard put > 0 else { throw .system(call: "write", errno: Int32(clamping: -put)) }
            done += Int(put)
        }
    }

    /// The next bytes that come, at most `maximum`; empty at the end.
    public func receive(maximum: Int) throws(ThreadingError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: maximum)
        // SAFETY: the kernel writes at most `maximum` bytes, all inside the array, during the call.
        let got = unsafe bytes.withUnsafeMutableBytes { buffer -> Int64 in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe CLinux_read(descriptor, base, buffer.count)
        }
        guard got >= 0 else { throw .system(call: "read", errno: Int32(clamping: -got)) }
        bytes.removeLast(maximum - Int(got))
        return bytes
    }
}
