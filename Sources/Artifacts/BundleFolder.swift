internal import Glibc

/// A bundle's folder, opened and verified: manifest, digests, tensors. Stages are made from it afterwards.
public struct BundleFolder {
    /// Path of the folder as it was given.
    public let path: String
    /// What the bundle says it is.
    public let manifest: Manifest
    /// All tensors of all its safetensors files.
    public let tensors: BundleTensors
    /// Lower-case SHA-256 of manifest.json: the bundle's identity, since the manifest holds every other
    /// digest.
    public let digest: String
    /// `golden.jsonl`, `warmup.jsonl` and `retrieval.faiss`, where there.
    private let others: [String: FileBytes]

    /// Largest file of a bundle, 256 GiB.
    static let fileMaximum = 1 << 38

    /// Reads and verifies the folder: names, links, digests, sizes, tensor headers.
    /// - Parameter progress: told bytes done and bytes in all.
    public init(path: String, progress: (Int, Int) -> Void = { _, _ in }) throws(BundleError) {
        self.path = path
        let manifestFile = try Self.manifestFile(path)
        digest = Digest.sha256(manifestFile)
        manifest = try ManifestDecoder.decode(manifestFile.copy())
        let names = try Self.list(path)
        for name in names where name != "manifest.json" && manifest.files[name] == nil {
            throw BundleError(file: name, expected: "a file the manifest names", found: "another")
        }
        let total = manifest.files.values.reduce(0) { $0 + $1.byteCount }
        var done = 0
        var tensorFiles: [(name: String, bytes: FileBytes)] = []
        var others: [String: FileBytes] = [:]
        for (name, entry) in manifest.files.sorted(by: { $0.key < $1.key }) {
            guard
                name.hasSuffix(".safetensors")
                    || ["golden.jsonl", "warmup.jsonl", "retrieval.faiss"].contains(name)
            else {
                throw BundleError(
                    file: name, expected: "*.safetensors, golden.jsonl, warmup.jsonl or retrieval.faiss",
                    found: "another name")
            }
            // No more than was promised: a file of another size must not cost its memory before it is
            // refused.
            let maximum = min(entry.byteCount, Self.fileMaximum)
            let bytes = try FileBytes(path: path + "/" + name, name: name, maximum: maximum) {
                progress(done + $0, total)
            }
            guard bytes.count == entry.byteCount else {
                throw BundleError(file: name, expected: "\(entry.byteCount) bytes", found: "\(bytes.count)")
            }
            let sha256 = Digest.sha256(bytes)
            guard sha256 == entry.sha256 else {
                throw BundleError(file: name, expected: "sha256 \(entry.sha256)", found: sha256)
            }
            done += bytes.count
            progress(done, total)
            if name.hasSuffix(".safetensors") {
                tensorFiles.append((name, bytes))
            } else {
                others[name] = bytes
            }
        }
        self.others = others
        tensors = try BundleTensors(files: tensorFiles)
    }

    /// What the bundle in a folder says it is, without reading or verifying the rest.
    public static func manifest(of path: String) throws(BundleError) -> Manifest {
        try ManifestDecoder.decode(try manifestFile(path).copy())
    }

    private static func manifestFile(_ path: String) throws(BundleError) -> FileBytes {
        try FileBytes(
            path: path + "/manifest.json", name: "manifest.json", maximum: ManifestDecoder.byteMaximum)
    }

    /// The bytes of an optional file, nil when the bundle has none.
    public func optionalFile(_ name: String) -> FileBytes? { others[name] }

    /// The folder's visible names; anything but a regular file is refused.
    private static func list(_ path: String) throws(BundleError) -> [String] {
        guard let directory = unsafe opendir(path) else {
            throw BundleError(file: path, expected: "a readable folder", found: FileBytes.reason())
        }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            // SAFETY: d_name is a NUL-terminated array inside the entry, valid until the next readdir.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name.hasPrefix(".") { continue }
            guard names.count < 1024 else {
                throw BundleError(file: path, expected: "at most 1024 files", found: "more")
            }
            names.append(name)
        }
        return names.sorted()
    }
}
