internal import Glibc

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
            let put = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.write(rawValue, $0.baseAddress.map { unsafe $0 + done }, $0.count - done)
            }
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { return }
            done += put
        }
    }

    /// Writes a text.
    public func write(_ text: String) { write(Array(text.utf8)) }
}
