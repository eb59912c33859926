import CLinux

/// A failed system call.
struct IOError: Error, Equatable {
    var call: String
    var errno: Int32

    static let invalid = IOError(call: "listen", errno: CLinux_EINVAL)

    var isAddressInUse: Bool { errno == CLinux_EADDRINUSE }
    var isInvalid: Bool { errno == CLinux_EINVAL }
    var isOtherFile: Bool { errno == CLinux_EEXIST }

    /// The system's words for `errno`.
    static func text(_ errno: Int32) -> String {
        // SAFETY: never NULL, and ends in NUL.
        unsafe String(cString: CLinux_strerror(errno))
    }
}

/// Owner of one descriptor of a stream socket; closes it at the end of its life.
struct Socket: ~Copyable {
    enum Transfer: Equatable {
        /// More than 0 bytes were moved.
        case bytes(Int)
        case wouldBlock
        /// The peer has sent its last byte.
        case end
        case failed(errno: Int32)
    }

    let descriptor: Int32

    /// Takes the ownership of `descriptor`.
    init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { _ = CLinux_close(descriptor) }

    /// Fills `bytes` from its start, as far as bytes are there.
    func read(into bytes: inout [UInt8]) -> Transfer {
        let count = bytes.count
        // SAFETY: the kernel writes at most `count` bytes, all inside the array, before the closure returns.
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Int64 in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe CLinux_read(descriptor, base, count)
        }
        return result == 0 ? .end : Self.transfer(result)
    }

    /// Sends `bytes` from `start` on, as far as the peer and the kernel take them.
    func write(_ bytes: [UInt8], from start: Int) -> Transfer {
        precondition(start >= 0 && start < bytes.count, "start \(start) is not below \(bytes.count)")
        // SAFETY: the kernel reads the bytes from `start` to the end of the array before the closure returns.
        let result = unsafe bytes.withUnsafeBytes { buffer -> Int64 in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe CLinux_write(descriptor, base + start, buffer.count - start)
        }
        return Self.transfer(result)
    }

    /// Sends FIN; the peer may still send.
    func shutdownWrite() { _ = CLinux_shutdown_write(descriptor) }

    private static func transfer(_ result: Int64) -> Transfer {
        if result >= 0 { return .bytes(Int(result)) }
        let errno = Int32(clamping: -result)
        return errno == CLinux_EAGAIN ? .wouldBlock : .failed(errno: errno)
    }
}
