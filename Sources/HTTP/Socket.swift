import CLinux

/// A failed system call.
struct IOError: Error, Equatable {
    var call: String
    var errno: Int32

    var isAddressInUse: Bool { errno == CLinux_EADDRINUSE }
    var isInvalid: Bool { errno == CLinux_EINVAL }

    /// The system's words for `errno`.
    static func text(_ errno: Int32) -> String {
        // SAFETY: never NULL, and ends in NUL.
        unsafe String(cString: CLinux_strerror(errno))
    }
}

/// Owner of one TCP descriptor; closes it at the end of its life.
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

/// The other side of a connection.
struct Peer {
    var address: String
    var isLoopback: Bool
}

/// A listening TCP socket, and one spare descriptor to shed connections when the process has no other left.
struct Listener: ~Copyable {
    enum Acceptance: ~Copyable {
        case connection(Socket, Peer)
        /// No connection waits.
        case waitingForNone
        /// The connection was lost before it was accepted; others may wait.
        case lost
        /// Out of descriptors or memory: pause.
        case exhausted
    }

    let socket: Socket
    private var reserve: Int32

    /// Takes the ownership of `descriptor`, which listens.
    init(descriptor: Int32) {
        socket = Socket(descriptor: descriptor)
        reserve = CLinux_open_null()
    }

    deinit { if reserve >= 0 { _ = CLinux_close(reserve) } }

    /// Listens on a numeric address; port 0 picks a free one. The caller owns the descriptor.
    static func open(host: String, port: UInt16, sharesPort: Bool, backlog: Int) throws(IOError) -> Int32 {
        // SAFETY: the callee only reads the NUL-terminated string during the call.
        let fd = unsafe CLinux_listen_tcp(host, port, sharesPort ? 1 : 0, Int32(clamping: backlog))
        guard fd >= 0 else { throw IOError(call: "listen", errno: -fd) }
        return fd
    }

    /// Closes a descriptor that no `Socket` owns.
    static func close(_ descriptor: Int32) { _ = CLinux_close(descriptor) }

    /// The port that `descriptor` is bound to.
    static func port(of descriptor: Int32) throws(IOError) -> UInt16 {
        let port = CLinux_local_port(descriptor)
        guard let port = UInt16(exactly: port) else { throw IOError(call: "getsockname", errno: -port) }
        return port
    }

    /// The next waiting connection.
    mutating func accept() -> Acceptance {
        var loopback: Int32 = 0
        var name = [CChar](repeating: 0, count: Int(CLinux_peer_bytes))
        // SAFETY: the callee writes a NUL-terminated string of at most CLinux_peer_bytes into the array.
        let fd = unsafe name.withUnsafeMutableBufferPointer { buffer -> Int32 in
            guard let base = buffer.baseAddress else { return -CLinux_EINVAL }
            return unsafe CLinux_accept(socket.descriptor, base, &loopback)
        }
        if fd >= 0 {
            let address = String(
                decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return .connection(Socket(descriptor: fd), Peer(address: address, isLoopback: loopback == 1))
        }
        switch -fd {
        case CLinux_EAGAIN: return .waitingForNone
        case CLinux_EMFILE, CLinux_ENFILE:
            shedOne()
            return .exhausted
        case CLinux_ENOBUFS, CLinux_ENOMEM: return .exhausted
        default: return .lost
        }
    }

    /// Accepts and closes one connection on the spare descriptor, so that its client is not left hanging.
    private mutating func shedOne() {
        guard reserve >= 0 else {
            reserve = CLinux_open_null()
            return
        }
        _ = CLinux_close(reserve)
        var loopback: Int32 = 0
        var name = [CChar](repeating: 0, count: Int(CLinux_peer_bytes))
        // SAFETY: as in accept().
        let fd = unsafe name.withUnsafeMutableBufferPointer { buffer -> Int32 in
            guard let base = buffer.baseAddress else { return -CLinux_EINVAL }
            return unsafe CLinux_accept(socket.descriptor, base, &loopback)
        }
        if fd >= 0 { _ = CLinux_close(fd) }
        reserve = CLinux_open_null()
    }
}
