internal import Glibc

/// A file's bytes in memory of our own: read once, so that nobody can change or truncate them under a running
/// server.
@safe public final class FileBytes: @unchecked Sendable {
    // @unchecked Sendable: frozen, written only while it is made.
    private let base: UnsafeMutableRawPointer
    /// Size in bytes.
    public let count: Int
    /// Whether the file's mode let everybody on the machine read it.
    public let isOpenToOthers: Bool

    /// Reads a regular file.
    /// - Parameters:
    ///   - name: what to call it in errors.
    ///   - maximum: largest size in bytes.
    ///   - followsLinks: whether a symbolic link stands for what it leads to; else it is refused.
    ///   - progress: told the bytes read so far, every few megabytes.
    public init(
        path: String, name: String, maximum: Int, followsLinks: Bool = false,
        progress: (Int) -> Void = { _ in }
    ) throws(BundleError) {
        let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (followsLinks ? 0 : O_NOFOLLOW)
        let descriptor = unsafe open(path, flags)
        guard descriptor >= 0 else {
            throw BundleError(
                file: name, expected: "a readable regular file",
                found: errno == ELOOP ? "a symbolic link" : Self.reason())
        }
        defer { close(descriptor) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw BundleError(file: name, expected: "a regular file", found: "something else")
        }
        let size = Int(status.st_size)
        guard size <= maximum else {
            throw BundleError(file: name, expected: "at most \(maximum) bytes", found: "\(size)")
        }
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(size, 64), alignment: 64)
        var done = 0
        while done < size {
            // SAFETY: `memory` holds `size` bytes and is freed by deinit, or here when reading fails.
            let got = unsafe read(descriptor, memory + done, min(size - done, 8 << 20))
            if got < 0, errno == EINTR { continue }
            guard got > 0 else {
                let reason = got == 0 ? "end of file after \(done) bytes" : Self.reason()
                unsafe memory.deallocate()
                throw BundleError(file: name, expected: "\(size) bytes", found: reason)
            }
            done += got
            progress(done)
        }
        unsafe base = memory
        count = size
        isOpenToOthers = status.st_mode & S_IROTH != 0
    }

    /// A copy of `bytes`.
    public init(_ bytes: [UInt8]) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(bytes.count, 64), alignment: 64)
        unsafe bytes.withUnsafeBytes { source in
            if let start = source.baseAddress {
                unsafe memory.copyMemory(from: start, byteCount: source.count)
            }
        }
        unsafe base = memory
        count = bytes.count
        isOpenToOthers = false
    }

    /// Part of a file, and where it goes.
    typealias Piece = (source: FileBytes, range: Range<Int>, at: Int)

    /// `count` bytes put together from pieces, later ones over earlier ones, zero where there is none; traps
    /// when a piece is out of range.
    init(count: Int, pieces: [Piece]) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(count, 64), alignment: 64)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: max(count, 64))
        for piece in pieces {
            precondition(
                piece.at >= 0 && piece.range.count <= count - piece.at, "\(piece.range) at \(piece.at)")
            piece.source.withElements(UInt8.self, in: piece.range) { span in
                // SAFETY: `memory` holds `count` bytes, and the piece was checked to end before them.
                unsafe span.withUnsafeBufferPointer { source in
                    if let start = source.baseAddress {
                        unsafe (memory + piece.at).copyMemory(from: start, byteCount: source.count)
                    }
                }
            }
        }
        unsafe base = memory
        self.count = count
        isOpenToOthers = false
    }

    deinit { unsafe base.deallocate() }

    /// Calls `body` with `range` of the bytes, rebound to `Element`; traps when out of range or misaligned
    /// (check first).
    func withElements<Element: BitwiseCopyable, Result, E: Error>(
        _ type: Element.Type, in range: Range<Int>, _ body: (Span<Element>) throws(E) -> Result
    ) throws(E) -> Result {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "bytes \(range) of \(count)")
        let size = MemoryLayout<Element>.stride
        precondition(
            range.lowerBound % size == 0 && range.count % size == 0, "bytes \(range) for elements of \(size)")
        // SAFETY: the range is inside the allocation, aligned for Element, and `self` is kept alive to the
        // end.
        let start = unsafe (base + range.lowerBound).assumingMemoryBound(to: Element.self)
        defer { withExtendedLifetime(self) {} }
        return try body(unsafe UnsafeBufferPointer(start: start, count: range.count / size).span)
    }

    /// A copy of `range`; traps when out of range.
    public func copy(_ range: Range<Int>) -> [UInt8] {
        withElements(UInt8.self, in: range) { span in
            [UInt8](unsafeUninitializedCapacityOf: span)
        }
    }

    /// A copy of all bytes.
    public func copy() -> [UInt8] { copy(0..<count) }

    static func reason() -> String { unsafe String(cString: strerror(errno)) }
}

extension [UInt8] {
    fileprivate init(unsafeUninitializedCapacityOf span: Span<UInt8>) {
        unsafe self.init(unsafeUninitializedCapacity: span.count) { target, count in
            unsafe span.withUnsafeBufferPointer { source in
                if let to = target.baseAddress, let from = source.baseAddress {
                    unsafe to.update(from: from, count: source.count)
                }
            }
            count = span.count
        }
    }
}
