internal import Glibc

/// A bundle's folder, opened and verified: manifest, digests, tensors. Stages are made from it afterwards.
///
/// A delta is opened with the bundles it stands on, each verified by its own manifest and digests.
public struct BundleFolder {
    /// Path of the folder as it was given.
    public let path: String
    /// What the bundle says it is.
    public let manifest: Manifest
    /// All tensors of the bundle: of its own safetensors files, over its base's where it is a delta.
    public let tensors: BundleTensors
    /// Lower-case SHA-256 of manifest.json: the bundle's identity, since the manifest holds every other
    /// digest and its base's.
    public let digest: String
    /// The folders of the bundles a delta stands on, the nearest first; empty for a full bundle.
    public let bases: [String]
    /// `golden.jsonl`, `warmup.jsonl` and `retrieval.faiss`, where there.
    private let others: [String: FileBytes]

    /// Most deltas one upon another.
    public static let deltaMaximum = 8
    /// Largest file of a bundle, 256 GiB.
    static let fileMaximum = 1 << 38
    /// Files beside the tensors; a delta does not inherit them.
    static let otherNames: Set<String> = ["golden.jsonl", "warmup.jsonl", "retrieval.faiss"]

    /// One folder of a chain of deltas, with its manifest read.
    private struct Layer {
        let path: String
        /// Before the names of its files in errors: "", "base/", "base/base/" …
        let label: String
        let manifest: Manifest
        let digest: String

        init(path: String, label: String) throws(BundleError) {
            self.path = path
            self.label = label
            let name = label + ManifestDecoder.file
            let file = try BundleFolder.manifestFile(path, name: name)
            digest = Digest.sha256(file)
            do { manifest = try ManifestDecoder.decode(file.copy()) } catch {
                throw BundleError(
                    file: name, tensor: error.tensor, expected: error.expected, found: error.found)
            }
        }

        /// The files this layer gives: all of the bundle's own folder, of a base only its tensors.
        var files: [(name: String, entry: FileEntry)] {
            manifest.files.sorted { $0.key < $1.key }.filter { label.isEmpty || !otherNames.contains($0.key) }
                .map { ($0.key, $0.value) }
        }
    }

    /// Reads and verifies the folder: names, links, digests, sizes, tensor headers.
    /// - Parameters:
    ///   - bases: where a delta's base may be: folders that are bundles, or that hold bundles' folders.
    ///   - admit: may refuse the bundle by its manifest and the bytes of its files, before they are read.
    ///   - progress: told bytes done and bytes in all, every few megabytes.
    public init(
        path: String, bases: [String] = [],
        admit: (Manifest, Int) throws(BundleError) -> Void = { _, _ throws(BundleError) in },
        progress: (Int, Int) -> Void = { _, _ in }
    ) throws(BundleError) {
        let layers = try Self.layers(path, bases)
        self.path = path
        self.bases = layers.dropFirst().map(\.path)
        manifest = layers[0].manifest
        digest = layers[0].digest
        let total = layers.flatMap(\.files).reduce(0) { $0 &+ $1.entry.byteCount }
        try admit(manifest, total)
        for layer in layers { try Self.checkNames(layer) }
        var done = 0
        var tensors = BundleTensors(places: [:], firstFile: "bundle")
        var others: [String: FileBytes] = [:]
        for layer in layers.reversed() {
            var tensorFiles: [(name: String, bytes: FileBytes)] = []
            for (name, entry) in layer.files {
                let bytes = try Self.read(layer, name, entry) { progress(done + $0, total) }
                done += bytes.count
                progress(done, total)
                if Self.otherNames.contains(name) {
                    others[name] = bytes
                } else {
                    tensorFiles.append((layer.label + name, bytes))
                }
            }
            let own = try BundleTensors(files: tensorFiles)
            if let delta = layer.manifest.delta {
                tensors = try BundleTensors(
                    base: tensors, delta: own, removed: delta.removed, manifest: layer.label + "manifest.json"
                )
            } else {
                tensors = own
            }
        }
        self.others = others
        self.tensors = tensors
    }

    /// What the bundle in a folder says it is, without reading or verifying the rest.
    public static func manifest(of path: String) throws(BundleError) -> Manifest {
        try ManifestDecoder.decode(try manifestFile(path, name: ManifestDecoder.file).copy())
    }

    private static func manifestFile(_ path: String, name: String) throws(BundleError) -> FileBytes {
        try FileBytes(
            path: path + "/" + ManifestDecoder.file, name: name, maximum: ManifestDecoder.byteMaximum)
    }

    /// The bytes of an optional file, nil when the bundle has none.
    public func optionalFile(_ name: String) -> FileBytes? { others[name] }

    /// The bundle and, for a delta, what it stands on down to a full bundle.
    private static func layers(_ path: String, _ bases: [String]) throws(BundleError) -> [Layer] {
        var layers = [try Layer(path: path, label: "")]
        while let last = layers.last, let delta = last.manifest.delta {
            let blamed = last.label + ManifestDecoder.file
            guard layers.count <= deltaMaximum else {
                throw BundleError(
                    file: blamed, tensor: "/base_sha256",
                    expected: "a full bundle under at most \(deltaMaximum) deltas", found: "another delta")
            }
            guard let found = find(delta.base, in: bases) else {
                throw BundleError(
                    file: blamed, tensor: "/base_sha256",
                    expected: "a base whose manifest.json has sha256 \(delta.base)",
                    found: "none in \(bases.isEmpty ? "no folder of bases" : bases.joined(separator: ", "))")
            }
            let base = try Layer(path: found, label: last.label + "base/")
            guard base.digest == delta.base else {
                throw BundleError(
                    file: base.label + ManifestDecoder.file, expected: "sha256 \(delta.base)",
                    found: base.digest)
            }
            layers.append(base)
        }
        return layers
    }

    /// The folder whose manifest has that digest: one of `folders`, or directly inside one.
    private static func find(_ digest: String, in folders: [String]) -> String? {
        for folder in folders {
            let inside = (try? list(folder))?.map { folder + "/" + $0 } ?? []
            for candidate in [folder] + inside {
                let file = try? FileBytes(
                    path: candidate + "/" + ManifestDecoder.file, name: candidate,
                    maximum: ManifestDecoder.byteMaximum)
                if let file, Digest.sha256(file) == digest { return candidate }
            }
        }
        return nil
    }

    private static func checkNames(_ layer: Layer) throws(BundleError) {
        for name in try list(layer.path)
        where name != ManifestDecoder.file && layer.manifest.files[name] == nil {
            throw BundleError(
                file: layer.label + name, expected: "a file the manifest names", found: "another")
        }
        for name in layer.manifest.files.keys.sorted()
        where !name.hasSuffix(".safetensors") && !otherNames.contains(name) {
            throw BundleError(
                file: layer.label + name,
                expected: "*.safetensors, golden.jsonl, warmup.jsonl or retrieval.faiss",
                found: "another name")
        }
    }

    /// A file as its manifest promises it.
    private static func read(
        _ layer: Layer, _ name: String, _ entry: FileEntry, progress: (Int) -> Void
    ) throws(BundleError) -> FileBytes {
        let label = layer.label + name
        // No more than was promised: a file of another size must not cost its memory before it is refused.
        let bytes = try FileBytes(
            path: layer.path + "/" + name, name: label, maximum: min(entry.byteCount, fileMaximum),
            progress: progress)
        guard bytes.count == entry.byteCount else {
            throw BundleError(file: label, expected: "\(entry.byteCount) bytes", found: "\(bytes.count)")
        }
        let sha256 = Digest.sha256(bytes)
        guard sha256 == entry.sha256 else {
            throw BundleError(file: label, expected: "sha256 \(entry.sha256)", found: sha256)
        }
        return bytes
    }

    /// The folder's visible names; a file's kind is checked when it is opened.
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
