internal import JSON

/// Reads `manifest.json` strictly: every field typed and in range, unknown fields refused, names checked.
struct ManifestDecoder {
    static let file = "manifest.json"
    static let byteMaximum = 16 << 20
    static let featureMaximum = 1024
    static let attributeMaximum = 256
    static let vocabularyMaximum = 65_536
    static let itemMaximum = 1 << 30

    static func decode(_ bytes: [UInt8]) throws(BundleError) -> Manifest {
        let document: JSONValue
        do { document = try JSONParser.parse(bytes, depthMaximum: 32) } catch {
            throw BundleError(file: file, expected: "strict JSON", found: error.description)
        }
        do {
            return try manifest(document)
        } catch {
            throw BundleError(
                file: file, tensor: error.pointer.isEmpty ? nil : error.pointer, expected: "a valid manifest",
                found: error.detail)
        }
    }

    private static func manifest(_ document: JSONValue) throws(JSONSchemaError) -> Manifest {
        var reader = try JSONObjectReader(document, at: "")
        _ = try reader.integer("format_version", in: 1...1)
        let delta = try delta(&reader)
        let modelVersion = try versionName(&reader, "model_version")
        let spaceVersion = try versionName(&reader, "space_version")
        let info = reader.value("info") ?? .object(JSONObject([]))
        let files = try files(try reader.reader("files"))
        let items = try items(try reader.reader("items"))
        let users = try reader.optionalObject("users").map(users)
        var features: [FeatureDefinition] = []
        for (index, value) in (try reader.optionalArray("features", maximum: featureMaximum) ?? [])
            .enumerated()
        {
            let feature = try ManifestFeatureDecoder.decode(value, at: "/features/\(index)")
            if features.contains(where: { $0.name == feature.name }) {
                throw JSONSchemaError(
                    .outOfRange, "/features/\(index)/name", "the name \(feature.name) is taken")
            }
            features.append(feature)
        }
        let retrieval = try ManifestStageDecoder.retrieval(try reader.reader("retrieval"))
        let tower = try reader.optionalObject("tower").map(ManifestStageDecoder.tower)
        let sequence = try reader.optionalObject("sequence").map(ManifestStageDecoder.sequence)
        let ranker = try reader.optionalObject("ranker").map(ManifestStageDecoder.ranker)
        let value = try reader.optionalObject("value").map(ManifestStageDecoder.value)
        let placements =
            try reader.optionalObject("placements").map(ManifestPlacementDecoder.placements) ?? []
        let experiment = try reader.optionalObject("experiment").map(ManifestPlacementDecoder.experiment)
        var tolerance = 1e-4
        if var tolerances = try reader.optionalObject("tolerances") {
            tolerance = try tolerances.optionalNumber("golden", in: 1e-9...0.1) ?? tolerance
            try tolerances.finish()
        }
        try reader.finish()
        let manifest = Manifest(
            delta: delta, modelVersion: modelVersion, spaceVersion: spaceVersion, info: info, files: files,
            items: items, users: users, features: features, retrieval: retrieval, tower: tower,
            sequence: sequence, ranker: ranker, value: value, placements: placements,
            experiment: experiment, tolerance: tolerance)
        try checkReferences(manifest)
        try ManifestPlacementDecoder.checkReferences(manifest)
        return manifest
    }

    /// What a manifest of kind `delta` says of its base; a full one says nothing.
    private static func delta(_ reader: inout JSONObjectReader) throws(JSONSchemaError) -> DeltaConfiguration?
    {
        guard try reader.choice("kind", [("full", false), ("delta", true)]) else { return nil }
        let base = try reader.string("base_sha256", bytes: 64...64)
        guard base.utf8.allSatisfy(isHexadecimal) else {
            throw JSONSchemaError(
                .outOfRange, reader.pointer(to: "base_sha256"), "expected 64 lower-case hexadecimal digits")
        }
        var removed: Set<String> = []
        for (index, value) in (try reader.optionalArray("removed", maximum: SafeTensors.tensorMaximum) ?? [])
            .enumerated()
        {
            let pointer = reader.pointer(to: "removed") + "/\(index)"
            guard case .string(let name) = value, removed.insert(name).inserted else {
                throw JSONSchemaError(.wrongType, pointer, "expected a tensor's name, each once")
            }
        }
        return DeltaConfiguration(base: base, removed: removed.sorted())
    }

    /// Whether a byte is one of a digest's text.
    static func isHexadecimal(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): true
        default: false
        }
    }

    /// What one section says about another.
    private static func checkReferences(_ manifest: Manifest) throws(JSONSchemaError) {
        let names = Set(manifest.features.map(\.name))
        for (pointer, inputs) in [
            ("/tower/inputs", manifest.tower?.inputs ?? []),
            ("/ranker/inputs", manifest.ranker?.inputs ?? []),
        ] {
            for (index, name) in inputs.enumerated() where !names.contains(name) {
                throw JSONSchemaError(.outOfRange, "\(pointer)/\(index)", "no feature of the name \(name)")
            }
        }
        if (manifest.ranker == nil) != (manifest.value == nil) {
            throw JSONSchemaError(.missing, "/value", "ranker and value go together")
        }
        let tasks = Set((manifest.ranker?.tasks ?? []).map(\.name))
        for name in (manifest.value?.weights ?? [:]).keys.sorted() where !tasks.contains(name) {
            throw JSONSchemaError(.outOfRange, "/value/weights/\(name)", "no task of that name")
        }
        if manifest.retrieval.quotas.sequence > 0, manifest.sequence?.dot == nil {
            throw JSONSchemaError(
                .outOfRange, "/retrieval/sources/sequence", "there is no sequence model with a dot head")
        }
        if manifest.retrieval.quotas.tower > 0, manifest.tower == nil {
            throw JSONSchemaError(.outOfRange, "/retrieval/sources/tower", "there is no tower")
        }
    }

    private static func versionName(_ reader: inout JSONObjectReader, _ name: String) throws(JSONSchemaError)
        -> String
    {
        let text = try reader.string(name, bytes: 1...64)
        guard isFileName(text) else {
            throw JSONSchemaError(.outOfRange, reader.pointer(to: name), "expected [A-Za-z0-9._-]{1,64}")
        }
        return text
    }

    /// Whether `text` matches `[A-Za-z0-9._-]{1,64}` and is not a dot name.
    static func isFileName(_ text: String) -> Bool {
        Manifest.isLabel(text) && text.utf8.first != UInt8(ascii: ".")
    }

    private static func files(_ reader: JSONObjectReader) throws(JSONSchemaError) -> [String: FileEntry] {
        var files: [String: FileEntry] = [:]
        guard reader.object.members.count <= 256 else {
            throw JSONSchemaError(.outOfRange, reader.pointer, "more than 256 files")
        }
        for member in reader.object.members {
            let pointer = reader.pointer(to: member.name)
            guard isFileName(member.name), member.name != file else {
                throw JSONSchemaError(.outOfRange, pointer, "not a name for a file")
            }
            var entry = try JSONObjectReader(member.value, at: pointer)
            let sha256 = try entry.string("sha256", bytes: 64...64)
            let bytes = try entry.integer("bytes", in: 0...(1 << 44))
            try entry.finish()
            files[member.name] = FileEntry(sha256: sha256, byteCount: bytes)
        }
        return files
    }

    private static func items(_ source: JSONObjectReader) throws(JSONSchemaError) -> ItemsConfiguration {
        var reader = source
        let count = try reader.integer("count", in: 1...itemMaximum)
        let attributes = try attributes(&reader)
        try reader.finish()
        return ItemsConfiguration(count: count, attributes: attributes)
    }

    private static func users(_ source: JSONObjectReader) throws(JSONSchemaError) -> UsersConfiguration {
        var reader = source
        let count = try reader.integer("count", in: 0...itemMaximum)
        let attributes = try attributes(&reader)
        let histories = try reader.optionalBoolean("histories") ?? false
        try reader.finish()
        return UsersConfiguration(count: count, attributes: attributes, hasHistories: histories)
    }

    private static func attributes(_ reader: inout JSONObjectReader) throws(JSONSchemaError)
        -> [AttributeDefinition]
    {
        var attributes: [AttributeDefinition] = []
        for (index, value) in (try reader.optionalArray("attributes", maximum: attributeMaximum) ?? [])
            .enumerated()
        {
            var entry = try JSONObjectReader(value, at: reader.pointer(to: "attributes") + "/\(index)")
            let name = try attributeName(&entry, "name")
            let type = try entry.choice(
                "type",
                ["string", "strings", "number", "boolean"].compactMap { n in
                    AttributeType(rawValue: n).map { (n, $0) }
                })
            let isFilterable = try entry.optionalBoolean("filterable") ?? false
            try entry.finish()
            guard !attributes.contains(where: { $0.name == name }) else {
                throw JSONSchemaError(.outOfRange, entry.pointer(to: "name"), "the name \(name) is taken")
            }
            attributes.append(AttributeDefinition(name: name, type: type, isFilterable: isFilterable))
        }
        return attributes
    }

    static func attributeName(_ reader: inout JSONObjectReader, _ name: String) throws(JSONSchemaError)
        -> String
    {
        let text = try reader.string(name, bytes: 1...64)
        let isName = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "_"):
                true
            default: false
            }
        }
        guard isName else {
            throw JSONSchemaError(.outOfRange, reader.pointer(to: name), "expected [a-z0-9_]{1,64}")
        }
        return text
    }
}

extension Optional {
    /// `map` with a typed throw.
    fileprivate func map<Result, E: Error>(_ transform: (Wrapped) throws(E) -> Result) throws(E) -> Result? {
        switch self {
        case .none: nil
        case .some(let value): try transform(value)
        }
    }
}
