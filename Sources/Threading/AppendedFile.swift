internal import Glibc

/// A file that lines are appended to, or standard output, and that can be opened anew under its name.
///
/// Several processes may append to one file. For one thread at a time.
public final class AppendedFile {
    private let path: String
    private var descriptor: Int32 = -1
    /// The last write ended in the middle of a line.
    private var isTorn = false
    /// The file at hand has not the beginning of the next bytes' line.
    private var skipsRest = false

    /// A file that is opened when it is needed.
    /// - Parameter path: made when it is missing, for its owner to write and its group to read; `-` for
    ///   standard output.
    public init(path: String) { self.path = path }

    deinit { close() }

    /// Opens the file; nothing happens when it is open.
    public func open() throws(StreamError) {
        guard path != "-", descriptor < 0 else { return }
        // Never waits for somebody to read a pipe.
        descriptor = unsafe Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0o640)
        guard descriptor >= 0 else { throw StreamError(path, "open") }
    }

    /// Appends whole lines and takes them out of `lines`; what is left there when it throws was not written,
    /// from the very byte on.
    public func append(_ lines: inout [UInt8]) throws(StreamError) {
        guard path != "-" else {
            StandardStream.output.write(lines)
            return lines.removeAll()
        }
        try open()
        if skipsRest, let end = lines.firstIndex(of: 0x0A) { lines.removeSubrange(...end) }
        skipsRest = false
        while !lines.isEmpty {
            // SAFETY: the buffer holds `count` bytes and is alive during the call.
            let put = unsafe lines.withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress, $0.count)
            }
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { throw StreamError(path, "write") }
            isTorn = lines[put - 1] != 0x0A
            lines.removeSubrange(..<put)
        }
    }

    /// Closes the file; the next append opens what has its name then.
    public func close() {
        guard descriptor >= 0 else { return }
        _ = Glibc.close(descriptor)
        descriptor = -1
        skipsRest = isTorn
        isTorn = false
    }
}
