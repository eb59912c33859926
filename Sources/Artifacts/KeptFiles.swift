internal import Glibc

/// A folder of files that can be made again, of which the ones used last are kept.
public enum KeptFiles {
    /// Marks a file as used now; nothing happens when it cannot be marked.
    public static func touch(_ path: String) {
        // SAFETY: a path of ours, and no times: both become the present.
        _ = unsafe utimensat(AT_FDCWD, path, nil, AT_SYMLINK_NOFOLLOW)
    }

    /// Removes all but the `maximum` files used last of those named 64 hexadecimal digits and `suffix`, each
    /// with the file beside it that has `companion` at the end of its name.
    /// - Returns: the names removed.
    public static func prune(
        _ folder: String, suffix: String, companion: String, keeping maximum: Int
    ) -> [String] {
        guard let directory = unsafe opendir(folder) else { return [] }
        defer { unsafe closedir(directory) }
        var files: [(seconds: Int, nanoseconds: Int, name: String)] = []
        while let entry = unsafe readdir(directory) {
            // SAFETY: d_name is a NUL-terminated array inside the entry, valid until the next readdir.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            guard name.hasSuffix(suffix), name.utf8.count == 64 + suffix.utf8.count,
                name.utf8.prefix(64).allSatisfy({ ManifestDecoder.isHexadecimal($0) })
            else { continue }
            var status = stat()
            // SAFETY: `status` is alive during the call.
            guard unsafe lstat(folder + "/" + name, &status) == 0 else { continue }
            files.append((status.st_mtim.tv_sec, status.st_mtim.tv_nsec, name))
        }
        let old = files.sorted { $1 < $0 }.dropFirst(maximum).map(\.name)
        for name in old {
            // The digest goes first: an index without one is not believed.
            _ = unsafe unlink(folder + "/" + name + companion)
            _ = unsafe unlink(folder + "/" + name)
        }
        return old
    }
}
