internal import Glibc

/// A file that is there whole or not at all, or standard output, written in pieces.
///
/// The file is readable by its owner alone. One thread at a time.
public final class OutputFile {
    /// Bytes taken so far.
    public private(set) var count = 0

    private let path: String?
    private let temporary: String
    private let descriptor: Int32
    private var waiting: [UInt8] = []
    private var isFinished = false

    // 256 KiB: few enough calls, and small beside what is read meanwhile.
    private static let waitingBytes = 262_144

    /// - Parameter path: where the file is to be, over one that is there already; nil for standard output.
    public init(path: String?) throws(StreamError) {
        self.path = path
        guard let path else {
            (temporary, descriptor) = ("standard output", 1)
            return
        }
        temporary = path + ".partial"
        // One may be left by a process that was killed.
        _ = unsafe unlink(temporary)
        descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw StreamError(temporary, "open") }
    }

    deinit {
        guard path != nil else { return }
        close(descriptor)
        if !isFinished { _ = unsafe unlink(temporary) }
    }

    /// Appends bytes; throws when the other side does not take them.
    public func write(_ bytes: [UInt8]) throws(StreamError) {
        waiting += bytes
        count += bytes.count
        if waiting.count >= Self.waitingBytes { try flush() }
    }

    /// Makes what was written durable and gives the file its name.
    public func finish() throws(StreamError) {
        try flush()
        guard let path else { return }
        guard fsync(descriptor) == 0 else { throw StreamError(temporary, "fsync") }
        guard unsafe rename(temporary, path) == 0 else { throw StreamError(path, "rename") }
        isFinished = true
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let parent = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { return }
        fsync(parent)
        close(parent)
    }

    private func flush() throws(StreamError) {
        var done = 0
        while done < waiting.count {
            // SAFETY: the buffer holds `waiting.count` bytes and is alive during the call.
            let put = unsafe waiting.withUnsafeBytes { source in
                unsafe Glibc.write(
                    descriptor, source.baseAddress.map { unsafe $0 + done }, source.count - done)
            }
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { throw StreamError(temporary, "write") }
            done += put
        }
        waiting.removeAll(keepingCapacity: true)
    }
}
