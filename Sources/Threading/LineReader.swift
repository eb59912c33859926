internal import CLinux
internal import Glibc

/// Why a stream of bytes could not be read or written.
public struct StreamError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The file, or what stands for it.
    public let path: String
    /// The call that failed.
    public let call: String
    /// The system's words.
    public let reason: String
    /// One sentence.
    public var description: String { "\(path): \(call): \(reason)" }

    init(_ path: String, _ call: String) {
        self.path = path
        self.call = call
        reason = unsafe String(cString: CLinux_strerror(errno))
    }
}

/// Reads lines of a file or of standard input in pieces, so that the file's size does not matter.
public final class LineReader {
    /// A line without its end.
    public enum Line: Equatable {
        case bytes([UInt8])
        /// Longer than the reader's maximum; its bytes are skipped.
        case tooLong
    }

    /// Lines read so far: the number of the last one, from 1.
    public private(set) var number = 0
    /// Bytes read so far, with the line ends.
    public private(set) var offset = 0
    /// Size of the file in bytes; nil where it is not a file.
    public let size: Int?

    private let path: String
    private let descriptor: Int32
    private let maximum: Int
    private var piece: [UInt8] = []
    private var at = 0
    private var isAtEnd = false

    // 256 KiB: few enough calls, and small beside a batch of lines.
    private static let pieceBytes = 262_144

    /// - Parameters:
    ///   - path: the file; nil for standard input.
    ///   - maximum: bytes of the longest line.
    public init(path: String?, maximum: Int) throws(StreamError) {
        self.path = path ?? "standard input"
        self.maximum = maximum
        if let path {
            descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw StreamError(path, "open") }
        } else {
            descriptor = 0
        }
        var status = stat()
        let isFile = unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        size = isFile ? Int(status.st_size) : nil
    }

    deinit { if descriptor > 0 { close(descriptor) } }

    /// The next line, also one that no line end follows; nil at the end.
    public func next() throws(StreamError) -> Line? {
        var line: [UInt8] = []
        var isTooLong = false
        while true {
            if at == piece.count {
                guard try fill() else {
                    if line.isEmpty, !isTooLong { return nil }
                    number += 1
                    return isTooLong ? .tooLong : .bytes(line)
                }
            }
            let end = piece[at...].firstIndex(of: 0x0A)
            let part = piece[at..<(end ?? piece.count)]
            if line.count + part.count > maximum { isTooLong = true }
            if !isTooLong { line += part }
            offset += part.count + (end == nil ? 0 : 1)
            at = end.map { $0 + 1 } ?? piece.count
            if end != nil {
                number += 1
                return isTooLong ? .tooLong : .bytes(line)
            }
        }
    }

    /// Reads the next piece; false at the end.
    private func fill() throws(StreamError) -> Bool {
        guard !isAtEnd else { return false }
        var count = 0
        piece = unsafe [UInt8](unsafeUninitializedCapacity: Self.pieceBytes) { target, filled in
            // SAFETY: the buffer has room for `pieceBytes` bytes during the call.
            repeat {
                count = unsafe read(descriptor, target.baseAddress, Self.pieceBytes)
            } while count < 0 && errno == EINTR
            filled = max(count, 0)
        }
        guard count >= 0 else { throw StreamError(path, "read") }
        at = 0
        isAtEnd = count == 0
        return count > 0
    }
}
