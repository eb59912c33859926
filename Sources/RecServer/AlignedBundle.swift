import Artifacts
import JSON
import Kernels
import Retrieval

/// Writes a bundle whose item and user vectors are mapped into another space, everything else as it was.
struct AlignedBundle {
    let folder: BundleFolder
    let snapshot: Snapshot
    let alignment: SpaceAlignment
    /// Whether inner products between items change, so that `/similar` needs the vectors as they were.
    let changesItemProducts: Bool
    let spaceVersion: String

    private static let vectors = "item.vector"
    private static let similar = "item.similar"
    /// The vectors as they were, for features that read them.
    static let kept = "item.vector.before_alignment"
    private static let file = "model.safetensors"
    private static let userVector = "tower.user_vector"

    /// - Throws: naming a feature that reads the vectors in a way that nothing can undo.
    func refuseFeatures() throws(BundleError) {
        let manifest = folder.manifest
        let read = Set((manifest.ranker?.inputs ?? []) + (manifest.tower?.inputs ?? []))
        for (index, feature) in manifest.features.enumerated() where read.contains(feature.name) {
            guard case .stage(let stage, _, _) = feature.encoding,
                stage == .towerUserVector || stage == .towerItemVector
            else { continue }
            throw BundleError(
                file: "manifest.json", tensor: "/features/\(index)",
                expected: "no ranker input that reads the tower's vectors, which align changes",
                found: "\(feature.name) with \(stage.rawValue)")
        }
    }

    /// Writes the bundle to the folder `out`, which must hold none yet; the manifest comes last.
    func write(to out: String, progress: ProgressLine) throws {
        if (try? FileBytes(path: out + "/manifest.json", name: out, maximum: .max)) != nil {
            throw BundleError(file: out, expected: "a folder without a bundle", found: "one with a manifest")
        }
        let document = try manifestDocument()
        var files = [(Self.file, tensorFile(progress))]
        if let goldens = folder.optionalFile(Golden.file) {
            files.append((Golden.file, try self.goldens(goldens)))
        }
        if let warmUp = folder.optionalFile("warmup.jsonl") { files.append(("warmup.jsonl", warmUp.copy())) }
        for (name, bytes) in files { try AtomicFile.write(bytes, to: out + "/" + name) }
        let entries = files.map { name, bytes in
            (
                name: name,
                value: JSONValue.object(
                    JSONObject([
                        ("sha256", .string(Digest.sha256(bytes))), ("bytes", .integer(Int64(bytes.count))),
                    ]))
            )
        }
        var writer = JSONWriter()
        writer.value(document.replacing("files", .object(JSONObject(entries))))
        try AtomicFile.write(writer.bytes + [0x0A], to: out + "/manifest.json")
    }

    // MARK: - Tensors

    private var readers: [Int] {
        folder.manifest.features.indices.filter { folder.manifest.features[$0].table == Self.vectors }
    }

    private func tensorFile(_ progress: ProgressLine) -> [UInt8] {
        let tensors = folder.tensors
        var writer = SafeTensorsWriter()
        var mapped: Set = [Self.vectors, Self.vectors + ".scale"]
        let table = snapshot.retrieval.table.vectors
        let vectors = table.mapped(by: alignment.items) { progress.show("mapping vectors", $0, table.rows) }
        writer.add(Self.vectors, vectors)
        var copies: [String] = readers.isEmpty ? [] : [Self.kept]
        if changesItemProducts, !tensors.contains(Self.similar) { copies.append(Self.similar) }
        for copy in copies {
            for suffix in ["", ".scale"] {
                writer.copy(Self.vectors + suffix, of: tensors, as: copy + suffix)
            }
        }
        if let tower = snapshot.tower, let configuration = folder.manifest.tower {
            let name = "tower.user.\(max(0, configuration.layers - 1))"
            mapped.formUnion([name + ".weight", name + ".bias"])
            // user · M = M'W x + b · M; without layers the map itself becomes one.
            let last = tower.network.last
            let weight = last.map { DoubleMatrix($0.weight, rows: 0..<$0.weight.rows) }
            let width = alignment.users.columns
            let newWeight =
                weight.map { alignment.users.product($0, transposingSelf: true) }
                ?? alignment.users.transposed
            writer.add(name + ".weight", newWeight.floats)
            let bias = last.map {
                DoubleMatrix($0.bias, rows: 0..<1).product(alignment.users).floats.copyRow(0)
            }
            writer.add(
                name + ".bias", floats: bias ?? [Float](repeating: 0, count: width), shape: [width])
        }
        for name in tensors.names where !mapped.contains(name) { writer.copy(name, of: tensors) }
        return writer.file()
    }

    // MARK: - Documents

    /// The manifest's document, checked to be the one that was verified.
    private func manifestDocument() throws -> JSONObject {
        let bytes = try FileBytes(
            path: folder.path + "/manifest.json", name: "manifest.json", maximum: 1 << 26)
        guard Digest.sha256(bytes) == folder.digest,
            case .object(var document) = try JSONParser.parse(bytes.copy(), depthMaximum: 32)
        else {
            throw BundleError(
                file: "manifest.json", expected: "sha256 \(folder.digest)", found: "a file that has changed")
        }
        document = document.removing("base_sha256").removing("removed")
            .replacing("kind", .string("full")).replacing("space_version", .string(spaceVersion))
        if case .array(var features)? = document["features"] {
            for index in readers {
                if case .object(let feature) = features[index] {
                    features[index] = .object(feature.replacing("table", .string(Self.kept)))
                }
            }
            document = document.replacing("features", .array(features))
        }
        if case .object(let tower)? = document["tower"], folder.manifest.tower?.layers == 0 {
            document = document.replacing("tower", .object(tower.replacing("layers", .integer(1))))
        }
        return document
    }

    /// The goldens with user vectors of the new space; all other stages stay.
    private func goldens(_ bytes: FileBytes) throws -> [UInt8] {
        var text: [UInt8] = []
        for line in bytes.copy().split(separator: 0x0A) {
            guard case .object(let golden) = try JSONParser.parse(Array(line)),
                case .object(var stages)? = golden["stages"]
            else { continue }
            if case .array(let values)? = stages[Self.userVector] {
                let vector = values.compactMap { (value: JSONValue) -> Double? in
                    switch value {
                    case .integer(let integer): Double(integer)
                    case .number(let number): number
                    default: nil
                    }
                }
                guard vector.count == alignment.users.rows else {
                    throw BundleError(
                        file: Golden.file, tensor: Self.userVector,
                        expected: "\(alignment.users.rows) numbers", found: "\(vector.count)")
                }
                let mapped = DoubleMatrix(rows: 1, columns: vector.count, values: vector)
                    .product(alignment.users)
                stages = stages.replacing(Self.userVector, .array(mapped.values.map(JSONValue.number)))
            }
            var writer = JSONWriter(capacity: line.count)
            writer.value(golden.replacing("stages", .object(stages)))
            text += writer.bytes + [0x0A]
        }
        return text
    }
}

extension JSONObject {
    /// The object with a member of that value, in its old place or at the end.
    fileprivate func replacing(_ name: String, _ value: JSONValue) -> JSONObject {
        guard self[name] != nil else { return JSONObject(members + [(name, value)]) }
        return JSONObject(members.map { $0.name == name ? (name, value) : $0 })
    }

    fileprivate func removing(_ name: String) -> JSONObject { JSONObject(members.filter { $0.name != name }) }
}

extension JSONWriter {
    fileprivate mutating func value(_ object: JSONObject) { value(.object(object)) }
}
