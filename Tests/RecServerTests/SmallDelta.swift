import Artifacts

@testable import RecServer

/// A delta over the small bundle: another model version, and the tensors given.
struct SmallDelta {
    static let file = "delta.safetensors"

    let base: SmallBundle
    var tensors: [String: SmallTensor] = [:]
    var removed: [String] = []
    /// The resulting bundle's manifest, but for its kind, base and files.
    var manifest: String
    var others: [String: [UInt8]] = [:]

    init(of base: SmallBundle) {
        self.base = base
        manifest = base.manifest.replacing(#""small-1""#, with: #""small-2""#)
    }

    func tensorFile() -> [UInt8] {
        var writer = SafeTensorsWriter()
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) { tensor.add(to: &writer, name) }
        return writer.file()
    }

    /// The manifest with the entries of `files`, or of the delta's own.
    func manifestBytes(_ files: [String: [UInt8]]? = nil) -> [UInt8] {
        let names = removed.map { "\"\($0)\"" }.joined(separator: ",")
        let kind =
            #""kind":"delta","base_sha256":"\#(Digest.sha256(base.manifestBytes()))","removed":[\#(names)]"#
        var bundle = base
        bundle.manifest = manifest.replacing(#""kind":"full""#, with: kind)
        return bundle.manifestBytes(files ?? others.merging([Self.file: tensorFile()]) { own, _ in own })
    }

    func write(to folder: TemporaryFolder) throws {
        let files = others.merging([Self.file: tensorFile()]) { own, _ in own }
        for (name, bytes) in files { try folder.write(name, bytes) }
        try folder.write("manifest.json", manifestBytes(files))
    }
}
