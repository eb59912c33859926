internal import Glibc

extension BundleFolder {
    /// The folder that `path` leads to, links resolved, so that a link that is switched later does not change
    /// what it means. Throws when there is none.
    public static func resolve(_ path: String) throws(BundleError) -> String {
        guard let resolved = unsafe realpath(path, nil) else {
            throw BundleError(file: path, expected: "a readable folder", found: FileBytes.reason())
        }
        // SAFETY: realpath gave a NUL-terminated string of ours to free.
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }

    /// The identity of the bundle in a folder, by reading its manifest alone.
    public static func digest(of path: String) throws(BundleError) -> String {
        Digest.sha256(
            try FileBytes(
                path: path + "/manifest.json", name: "manifest.json", maximum: ManifestDecoder.byteMaximum))
    }
}
