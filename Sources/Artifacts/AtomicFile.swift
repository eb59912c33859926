internal import Glibc

/// Writes files that are there whole or not at all, also after a power failure.
public enum AtomicFile {
    /// Writes `bytes` to `path`: a temporary file beside it, synced, renamed, and the folder synced.
    ///
    /// Makes the last folder of `path` when it is missing. One writer at a time for a path. Throws naming the
    /// step.
    public static func write(_ bytes: [UInt8], to path: String) throws(BundleError) {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        _ = unsafe mkdir(folder, 0o755)
        let temporary = path + ".\(getpid()).tmp"
        // One may be left by a killed process of the same number: in a container that is every one before us.
        _ = unsafe unlink(temporary)
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard descriptor >= 0 else { throw failure(path, "open") }
        var isWritten = unsafe bytes.withUnsafeBytes { source in
            var done = 0
            while done < source.count {
                // SAFETY: the buffer holds `source.count` bytes and is alive during the call.
                let put = unsafe Glibc.write(
                    descriptor, source.baseAddress.map { unsafe $0 + done }, source.count - done)
                if put < 0, errno == EINTR { continue }
                guard put > 0 else { return false }
                done += put
            }
            return true
        }
        isWritten = isWritten && fsync(descriptor) == 0
        isWritten = close(descriptor) == 0 && isWritten
        guard isWritten, unsafe rename(temporary, path) == 0 else {
            let error = failure(path, "write")
            _ = unsafe unlink(temporary)
            throw error
        }
        let parent = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if parent >= 0 {
            fsync(parent)
            close(parent)
        }
    }

    private static func failure(_ path: String, _ step: String) -> BundleError {
        BundleError(file: path, expected: "\(step) to succeed", found: FileBytes.reason())
    }
}
