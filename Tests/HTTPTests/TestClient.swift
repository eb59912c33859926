import Glibc

/// A blocking TCP connection to the server under test; every read has a limit, so that a bug fails instead of
/// hanging.
final class TestClient {
    private let descriptor: Int32
    private let noSignal = Int32(truncatingIfNeeded: 0x4000)  // MSG_NOSIGNAL
    /// Nothing restarts the calls of a socket with a time limit after a signal.
    private static func uninterrupted(_ call: () -> Int) -> Int {
        while true {
            let result = call()
            guard result < 0, errno == EINTR else { return result }
        }
    }

    private var received: [UInt8] = []
    private(set) var hasEnded = false

    init(port: UInt16, receiveBufferBytes: Int32? = nil) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        limitReads()
        if var receiveBufferBytes {
            _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBufferBytes, 4)
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        precondition(status == 0, "connect failed: \(errno)")
    }

    /// A connection to a Unix socket; nil when nobody listens there.
    init?(path: String) {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        limitReads()
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            unsafe bytes.copyBytes(from: path.utf8.prefix(bytes.count - 1))
        }
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard status == 0 else { return nil }
    }

    private func limitReads() {
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
    }

    deinit { _ = close(descriptor) }

    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) {
        var start = 0
        while start < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[start...])
                return Self.uninterrupted {
                    unsafe Glibc.send(descriptor, rest.baseAddress, rest.count, noSignal)
                }
            }
            guard count > 0 else { return }
            start += count
        }
    }

    func endSending() { _ = shutdown(descriptor, Int32(SHUT_WR)) }

    /// Cuts the connection with a reset instead of an orderly end.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        _ = unsafe setsockopt(
            descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }

    /// The next answer, head and body; nil at the end of the connection.
    func response(hasBody: Bool = true) -> Answer? {
        while true {
            if let answer = Answer(&received, hasBody: hasBody) { return answer }
            guard receive() else { return nil }
        }
    }

    /// What has come and was not taken; waits for more. Nil at the end of the connection.
    func bytes() -> [UInt8]? {
        guard !received.isEmpty || receive() else { return nil }
        defer { received = [] }
        return received
    }

    /// Everything until the server closes.
    func rest() -> String {
        while receive() {}
        return String(decoding: received, as: UTF8.self)
    }

    /// What comes next, as it comes; empty at the end of the connection.
    func chunk() -> [UInt8] {
        if received.isEmpty { _ = receive() }
        defer { received = [] }
        return received
    }

    /// True when the server closes without sending more.
    func closesSilently() -> Bool { rest().isEmpty && hasEnded }

    private func receive() -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe chunk.withUnsafeMutableBytes { buffer in
            Self.uninterrupted { unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0) }
        }
        if count == 0 || count < 0 && errno == ECONNRESET { hasEnded = true }
        guard count > 0 else { return false }
        received += chunk[0..<count]
        return true
    }
}

struct Answer {
    var status: Int
    var head: String
    var body: String

    /// Takes the first complete answer out of `bytes`.
    init?(_ bytes: inout [UInt8], hasBody: Bool) {
        var end = 3
        while end < bytes.count, bytes[end - 3...end] != [13, 10, 13, 10] { end += 1 }
        guard end < bytes.count else { return nil }
        let head = String(decoding: bytes[0...end], as: UTF8.self)
        guard let status = Int(head.dropFirst(9).prefix(3)) else { return nil }
        var length = 0
        for line in head.split(separator: "\r\n") where line.hasPrefix("Content-Length: ") {
            length = Int(line.dropFirst(16)) ?? 0
        }
        if !hasBody || status == 100 { length = 0 }
        guard bytes.count > end + length else { return nil }
        self.status = status
        self.head = head
        body = String(decoding: bytes[(end + 1)..<(end + 1 + length)], as: UTF8.self)
        bytes.removeFirst(end + 1 + length)
    }

    var closes: Bool { head.contains("\r\nConnection: close\r\n") }
    var isProblem: Bool {
        head.contains("\r\nContent-Type: application/problem+json\r\n") && body.contains("\(status)")
    }
}
