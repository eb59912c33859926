import CLinux
import Synchronization

/// The other side of a connection.
struct Peer {
    /// The address of the socket; nil for a Unix socket.
    var network: NetworkAddress?

    /// What requests say of it.
    var address: String { network?.description ?? "unix" }
    /// On this machine: a Unix socket, 127.0.0.0/8 or ::1.
    var isLoopback: Bool { network?.isLoopback ?? true }
}

/// A listening socket, of one loop or shared by several; closes with its last owner.
final class ListeningSocket: Sendable {
    enum Acceptance: ~Copyable {
        case connection(Socket, Peer)
        /// No connection waits.
        case waitingForNone
        /// The connection was lost before it was accepted; others may wait.
        case lost
        /// Out of descriptors, or of memory: pause.
        case outOfDescriptors
        case outOfMemory
    }

    /// A Unix socket's file, by its inode: another one may have taken its name.
    private struct File: Sendable {
        var path: String
        var device: UInt64
        var inode: UInt64
    }

    let properties: ListenerProperties
    /// Whether several loops, or another process, may wait for its connections.
    let isShared: Bool
    private let socket: Socket
    private let file: File?
    private let keepsFile = Atomic<Bool>(false)

    var descriptor: Int32 { socket.descriptor }

    private init(_ descriptor: Int32, _ properties: ListenerProperties, isShared: Bool, file: File?) {
        socket = Socket(descriptor: descriptor)
        self.properties = properties
        self.isShared = isShared
        self.file = file
    }

    /// The file goes before the socket closes: who connects to a name finds somebody listening.
    deinit {
        guard let file, !keepsFile.load(ordering: .relaxed) else { return }
        let id = [file.device, file.inode]
        // SAFETY: the callee only reads the NUL-terminated string and the two words during the call.
        unsafe id.withUnsafeBufferPointer { words in
            guard let base = words.baseAddress else { return }
            unsafe CLinux_remove_socket_file(file.path, base)
        }
    }

    /// The socket's file stays at the end: another process listens there.
    func keepFile() { keepsFile.store(true, ordering: .relaxed) }

    /// Listens on a numeric address; port 0 picks a free one.
    static func tcp(
        host: String, port: UInt16, sharesPort: Bool, backlog: Int, _ properties: ListenerProperties
    ) throws(IOError) -> ListeningSocket {
        // SAFETY: the callee only reads the NUL-terminated string during the call.
        let fd = unsafe CLinux_listen_tcp(host, port, sharesPort ? 1 : 0, Int32(clamping: backlog))
        guard fd >= 0 else { throw IOError(call: "listen", errno: -fd) }
        return ListeningSocket(fd, properties, isShared: false, file: nil)
    }

    /// Listens on a Unix socket.
    static func unix(
        path: String, mode: UInt32, backlog: Int, removesFile: Bool, _ properties: ListenerProperties
    ) throws(IOError) -> ListeningSocket {
        guard !path.utf8.contains(0) else { throw IOError(call: "bind", errno: CLinux_EINVAL) }
        var id: [UInt64] = [0, 0]
        // SAFETY: the callee reads the NUL-terminated string and writes two words during the call.
        let fd = unsafe id.withUnsafeMutableBufferPointer { words -> Int32 in
            guard let base = words.baseAddress else { return -CLinux_EINVAL }
            return unsafe CLinux_listen_unix(path, mode, Int32(clamping: backlog), base)
        }
        guard fd >= 0 else { throw IOError(call: "bind", errno: -fd) }
        let file = removesFile ? File(path: path, device: id[0], inode: id[1]) : nil
        return ListeningSocket(fd, properties, isShared: true, file: file)
    }

    /// Takes over a descriptor that listens; it is closed when it does not.
    static func inherited(
        _ descriptor: Int32, removesFile: Bool, _ properties: ListenerProperties
    ) throws(IOError) -> ListeningSocket {
        let status = CLinux_adopt_listener(descriptor)
        guard status == 0 else {
            // What is no listening socket may be anything: it is not ours to close.
            throw IOError(call: "inherited socket", errno: -status)
        }
        var file: File?
        if removesFile, case .unix(let path, _) = try address(of: descriptor) {
            var id: [UInt64] = [0, 0]
            // SAFETY: the callee reads the NUL-terminated string and writes two words during the call.
            let status = unsafe id.withUnsafeMutableBufferPointer { words -> Int32 in
                guard let base = words.baseAddress else { return -CLinux_EINVAL }
                return unsafe CLinux_file_id(path, base)
            }
            if status == 0 { file = File(path: path, device: id[0], inode: id[1]) }
        }
        return ListeningSocket(descriptor, properties, isShared: true, file: file)
    }

    /// Where the socket listens: `.tcp` or `.unix`.
    func address() throws(IOError) -> HTTPListener.Address { try Self.address(of: descriptor) }

    private static func address(of descriptor: Int32) throws(IOError) -> HTTPListener.Address {
        var path = [CChar](repeating: 0, count: Int(CLinux_path_bytes))
        var words: [UInt64] = [0, 0]
        // SAFETY: the callee writes at most CLinux_path_bytes and two words during the call.
        let port = unsafe path.withUnsafeMutableBufferPointer { path -> Int32 in
            unsafe words.withUnsafeMutableBufferPointer { words -> Int32 in
                guard let path = path.baseAddress, let words = words.baseAddress else {
                    return -CLinux_EINVAL
                }
                return unsafe CLinux_local_address(descriptor, path, words)
            }
        }
        guard port >= 0 else { throw IOError(call: "getsockname", errno: -port) }
        guard let port = UInt16(exactly: port) else {
            let name = path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            return .unix(path: String(decoding: name, as: UTF8.self), mode: 0)
        }
        return .tcp(host: NetworkAddress(high: words[0], low: words[1]).description, port: port)
    }

    /// A copy of the descriptor, which the caller owns.
    func duplicate() throws(IOError) -> Int32 {
        let copy = CLinux_duplicate(descriptor)
        guard copy >= 0 else { throw IOError(call: "dup", errno: -copy) }
        return copy
    }

    /// The next waiting connection.
    func accept() -> Acceptance {
        var words: (UInt64, UInt64) = (0, 0)
        var isUnix: Int32 = 0
        // SAFETY: the callee writes two words into the pair, which lie side by side, and one flag.
        let fd = unsafe withUnsafeMutableBytes(of: &words) { bytes -> Int32 in
            guard let base = bytes.baseAddress else { return -CLinux_EINVAL }
            return unsafe CLinux_accept(descriptor, base.assumingMemoryBound(to: UInt64.self), &isUnix)
        }
        if fd >= 0 {
            let network = isUnix == 1 ? nil : NetworkAddress(high: words.0, low: words.1)
            return .connection(Socket(descriptor: fd), Peer(network: network))
        }
        return switch -fd {
        case CLinux_EAGAIN: .waitingForNone
        case CLinux_EMFILE, CLinux_ENFILE: .outOfDescriptors
        case CLinux_ENOBUFS, CLinux_ENOMEM: .outOfMemory
        default: .lost
        }
    }
}

/// One spare descriptor, to shed connections when the process has no other left.
struct SpareDescriptor: ~Copyable {
    private var spare = CLinux_open_null()

    deinit { if spare >= 0 { _ = CLinux_close(spare) } }

    /// Accepts and closes one connection, so that its client is not left hanging.
    mutating func shedOne(from socket: ListeningSocket) {
        if spare >= 0 {
            _ = CLinux_close(spare)
            _ = socket.accept()
        }
        spare = CLinux_open_null()
    }
}
