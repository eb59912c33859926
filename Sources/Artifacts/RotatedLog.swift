internal import Glibc

/// A log in a folder of numbered files of whole lines: appended to, begun anew at a size, the oldest removed.
///
/// `NAME-0000000001.ndjson`, then 2 and so on; numbers only grow. A file belongs to the process that holds
/// its lock: a second one on the same folder writes to a file of its own. For one thread at a time.
public final class RotatedLog {
    private let folder: String
    private let name: String
    private let fileBytes: Int
    private let files: Int
    private var current: Current?

    /// The file at hand.
    private struct Current {
        let descriptor: Int32
        let number: Int
        /// Bytes of whole lines.
        var count: Int
    }

    private static let suffix = ".ndjson"
    private static let digits = 10
    /// Bytes read at a time while the last line's end is looked for.
    private static let tailBytes = 65_536

    /// A log that opens its file when there is something to write.
    /// - Parameters:
    ///   - folder: made, with its last part, when it is missing.
    ///   - fileBytes: size from which on a new file is begun; a single append may go beyond it.
    ///   - files: most files, at least 1.
    public init(folder: String, name: String, fileBytes: Int, files: Int) {
        precondition(fileBytes >= 1 && files >= 1, "\(files) files of \(fileBytes) bytes")
        self.folder = folder
        self.name = name
        self.fileBytes = fileBytes
        self.files = files
    }

    deinit { release() }

    /// Opens the newest file, or a first one; a last line that has no end, as a crash may leave it, is cut
    /// off. Nothing happens when one is open.
    /// - Throws: naming the step.
    public func open() throws(BundleError) {
        guard current == nil else { return }
        _ = unsafe mkdir(folder, 0o750)
        let newest = try numbers().last
        if let newest, let opened = try open(newest, isNew: false) {
            current = opened
            if opened.count >= fileBytes { try begin(newest + 1) }
        } else {
            try begin((newest ?? 0) + 1)
        }
        try prune()
    }

    /// Appends whole lines, with the end of the last one: all of them or, when it throws, none.
    ///
    /// The first append after a failure opens the newest file again.
    public func append(_ lines: [UInt8]) throws(BundleError) {
        if let current, isRemoved(current.descriptor) { release() }
        try open()
        if let current, current.count > 0, current.count + lines.count > fileBytes {
            try begin(current.number + 1)
            try prune()
        }
        guard let current else { return }
        if let error = write(lines, to: current.descriptor) {
            // What was written of a line is cut off, at the latest when the file is opened again.
            _ = ftruncate(current.descriptor, off_t(current.count))
            release()
            throw error
        }
        self.current?.count += lines.count
    }

    /// Syncs and closes the file; the next append opens it again.
    public func close() {
        if let current { fdatasync(current.descriptor) }
        release()
    }

    /// Closes the file as it is.
    private func release() {
        if let current { _ = Glibc.close(current.descriptor) }
        current = nil
    }

    /// Whether somebody has removed the file at hand, so that what is written would be nowhere.
    private func isRemoved(_ descriptor: Int32) -> Bool {
        var status = stat()
        // SAFETY: `status` is alive during the call.
        return unsafe fstat(descriptor, &status) == 0 && status.st_nlink == 0
    }

    // MARK: - Files

    private func path(_ number: Int) -> String {
        let text = String(number)
        return "\(folder)/\(name)-\(String(repeating: "0", count: max(0, Self.digits - text.count)))\(text)"
            + Self.suffix
    }

    /// The numbers there are, ascending.
    private func numbers() throws(BundleError) -> [Int] {
        guard let directory = unsafe opendir(folder) else { throw failure(folder, "opendir") }
        defer { unsafe closedir(directory) }
        var numbers: [Int] = []
        while let entry = unsafe readdir(directory) {
            // SAFETY: d_name is a NUL-terminated array inside the entry, valid until the next readdir.
            let found = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            guard found.hasPrefix(name + "-"), found.hasSuffix(Self.suffix),
                case let digits = found.dropFirst(name.count + 1).dropLast(Self.suffix.count),
                digits.utf8.count >= Self.digits, let number = Int(digits), number > 0, number < .max
            else { continue }
            numbers.append(number)
        }
        return numbers.sorted()
    }

    /// Makes the next file; when it cannot, the one at hand is closed all the same.
    private func begin(_ number: Int) throws(BundleError) {
        close()
        current = try open(number, isNew: true)
    }

    /// - Returns: nil when another process holds the file.
    private func open(_ number: Int, isNew: Bool) throws(BundleError) -> Current? {
        let path = path(number)
        let flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
        let descriptor = unsafe Glibc.open(path, flags | (isNew ? O_CREAT | O_EXCL : 0), 0o640)
        guard descriptor >= 0 else { throw failure(path, "open") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let isHeld = errno == EWOULDBLOCK
            let error = failure(path, "flock")
            _ = Glibc.close(descriptor)
            if isHeld { return nil }
            throw error
        }
        do throws(BundleError) {
            return Current(descriptor: descriptor, number: number, count: try repair(descriptor, path))
        } catch {
            _ = Glibc.close(descriptor)
            throw error
        }
    }

    /// Cuts off what follows the last line's end.
    /// - Returns: the bytes that stay.
    private func repair(_ descriptor: Int32, _ path: String) throws(BundleError) -> Int {
        var status = stat()
        // SAFETY: `status` is alive during the call.
        guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw BundleError(file: path, expected: "a regular file", found: "something else")
        }
        let size = Int(status.st_size)
        var end = size
        var tail = [UInt8](repeating: 0, count: Self.tailBytes)
        while end > 0 {
            let start = max(0, end - tail.count)
            let got = unsafe tail.withUnsafeMutableBytes { tail in
                // SAFETY: the buffer has room for the bytes from `start` to `end`.
                unsafe pread(descriptor, tail.baseAddress, end - start, off_t(start))
            }
            guard got == end - start else { throw failure(path, "pread") }
            if let last = tail[..<got].lastIndex(of: UInt8(ascii: "\n")) {
                end = start + last + 1
                break
            }
            end = start
        }
        if end < size, ftruncate(descriptor, off_t(end)) != 0 { throw failure(path, "ftruncate") }
        return end
    }

    /// Removes the oldest files beyond the maximum, never the one at hand.
    private func prune() throws(BundleError) {
        let numbers = try numbers()
        for number in numbers.dropLast(files) where number != current?.number {
            _ = unsafe unlink(path(number))
        }
    }

    /// - Returns: nil when all is written.
    private func write(_ bytes: [UInt8], to descriptor: Int32) -> BundleError? {
        unsafe bytes.withUnsafeBytes { source in
            var done = 0
            while done < source.count {
                // SAFETY: the buffer holds `source.count` bytes and is alive during the call.
                let put = unsafe Glibc.write(
                    descriptor, source.baseAddress.map { unsafe $0 + done }, source.count - done)
                if put < 0, errno == EINTR { continue }
                guard put > 0 else { return failure(folder, "write") }
                done += put
            }
            return nil
        }
    }

    private func failure(_ path: String, _ step: String) -> BundleError {
        BundleError(file: path, expected: "\(step) to succeed", found: FileBytes.reason())
    }
}
