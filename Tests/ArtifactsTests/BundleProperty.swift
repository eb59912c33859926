#if canImport(Artifacts)
    @testable import Artifacts
    import Kernels
#endif

/// What holds for every input of the bundle's readers; shared by the tests and the fuzzer.
enum BundleProperty {
    /// What `bytes` break as a tensor file, nil when all holds.
    ///
    /// Bytes that begin with a brace are a header up to the first NUL and the data after it: the length is
    /// put before.
    static func tensorsViolation(_ bytes: [UInt8]) -> String? {
        var file = bytes
        if bytes.first == UInt8(ascii: "{") {
            let header = bytes.firstIndex(of: 0) ?? bytes.count
            var text = Array(bytes[..<header])
            while text.count % 8 != 0 { text.append(0x20) }
            file = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text
            file += bytes[header...].dropFirst()
        }
        guard let parsed = try? SafeTensors(file: "f", bytes: FileBytes(file)),
            let tensors = try? BundleTensors(files: [("f", FileBytes(file))])
        else { return nil }
        let size = parsed.entries.values.reduce(0) { $0 + $1.range.count }
        if size > file.count - 8 { return "\(size) bytes of data in a file of \(file.count)" }
        for (name, entry) in parsed.entries {
            if let violation = readingViolation(name, entry, tensors, file) { return violation }
        }
        do { try tensors.refuseUnread() } catch { return "\(error)" }
        return nil
    }

    private static func readingViolation(
        _ name: String, _ entry: TensorEntry, _ tensors: BundleTensors, _ file: [UInt8]
    ) -> String? {
        let shape = entry.shape
        if tensors.shape(name) != shape { return "\(name) has another shape" }
        if shape.count == 2, let matrix = try? tensors.matrix(name, rows: shape[0], columns: shape[1]) {
            if !matrix.isFinite { return "\(name) is not finite" }
            let at = entry.range.lowerBound
            if entry.type == .f32, matrix.rows * matrix.columns > 0 {
                let bits = (0..<4).reduce(UInt32(0)) { $0 | UInt32(file[at + $1]) << (8 * $1) }
                if matrix[0, 0].bitPattern != bits { return "\(name) begins with \(matrix[0, 0])" }
            }
        }
        _ = try? tensors.matrix(name, minimumRows: 1, columns: 2)
        _ = try? tensors.vector(name, count: shape.first ?? 0)
        _ = try? tensors.doubles(name, count: shape.first ?? 0)
        _ = try? tensors.integers(name, count: nil, below: 100)
        _ = try? tensors.bytes(name, count: nil)
        if let offsets = try? tensors.offsets(name, count: nil, total: nil) {
            if offsets.first != 0 || zip(offsets, offsets.dropFirst()).contains(where: >) {
                return "\(name): offsets \(offsets)"
            }
        }
        if name.hasSuffix(".bytes"), let list = try? tensors.strings(String(name.dropLast(6)), count: nil) {
            let total = (0..<list.count).reduce(0) { $0 + list[$1].utf8.count }
            if total != entry.range.count { return "\(name): \(total) bytes of strings" }
        }
        return nil
    }

    /// What `bytes` break as a manifest, nil when all holds.
    static func manifestViolation(_ bytes: [UInt8]) -> String? {
        let manifest: Manifest
        do { manifest = try ManifestDecoder.decode(bytes) } catch {
            return error.file == "manifest.json" ? nil : "blames \(error.file)"
        }
        let names = manifest.files.keys
        if names.contains(where: { $0.contains("/") || $0.hasPrefix(".") }) { return "files \(names)" }
        let features = manifest.features.map(\.name)
        if Set(features).count != features.count { return "a feature name appears twice" }
        let inputs = (manifest.tower?.inputs ?? []) + (manifest.ranker?.inputs ?? [])
        if !inputs.allSatisfy({ features.contains($0) }) { return "an input is no feature" }
        let retrieval = manifest.retrieval
        if retrieval.dimension % retrieval.index.subquantizers != 0 { return "subquantizers" }
        if let sequence = manifest.sequence, sequence.windowBlock > sequence.maxEvents { return "window" }
        if (manifest.ranker == nil) != (manifest.value == nil) { return "ranker without value" }
        return nil
    }
}
