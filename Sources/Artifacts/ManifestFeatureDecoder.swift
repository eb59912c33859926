internal import JSON

/// Reads one entry of the manifest's `features` (ModelFormat.md §3.1).
enum ManifestFeatureDecoder {
    static let dimensionMaximum = 4096
    static let bucketMaximum = 1 << 28

    static func decode(_ value: JSONValue, at pointer: String) throws(JSONSchemaError) -> FeatureDefinition {
        var reader = try JSONObjectReader(value, at: pointer)
        let name = try ManifestDecoder.attributeName(&reader, "name")
        let origin = try reader.choice("from", FeatureOrigin.allCases.map { ($0.rawValue, $0) })
        let key = try reader.optionalString("key", bytes: 1...64)
        let table = try reader.optionalString("table", bytes: 1...256)
        let encode = try reader.string("encode")
        let encoding = try encoding(encode, origin, &reader, hasTable: table != nil)
        try reader.finish()
        return FeatureDefinition(name: name, origin: origin, key: key, encoding: encoding, table: table)
    }

    private static func encoding(
        _ encode: String, _ origin: FeatureOrigin, _ reader: inout JSONObjectReader, hasTable: Bool
    ) throws(JSONSchemaError) -> FeatureEncoding {
        let allowed: [FeatureOrigin]
        switch encode {
        case "vocabulary", "hash", "bins", "squash": allowed = [.user, .item, .context]
        case "row": allowed = [.userID, .itemID]
        case "pool": allowed = [.history]
        case "stage": allowed = [.stage]
        default:
            throw JSONSchemaError(
                .outOfRange, reader.pointer(to: "encode"),
                "expected vocabulary, hash, bins, squash, row, pool or stage")
        }
        guard allowed.contains(origin) else {
            throw JSONSchemaError(
                .outOfRange, reader.pointer(to: "from"),
                "\(encode) reads from \(allowed.map(\.rawValue).joined(separator: ", "))")
        }
        switch encode {
        case "vocabulary":
            let words = try strings(&reader, "vocabulary", maximum: ManifestDecoder.vocabularyMaximum)
            guard Set(words.map { Array($0.utf8) }).count == words.count else {
                throw JSONSchemaError(.outOfRange, reader.pointer(to: "vocabulary"), "a word appears twice")
            }
            return .vocabulary(words, dimension: try dimension(&reader), pooling: try pooling(&reader))
        case "hash":
            let buckets = try reader.integer("buckets", in: 1...bucketMaximum)
            return .hash(buckets: buckets, dimension: try dimension(&reader), pooling: try pooling(&reader))
        case "bins": return .bins(try ascending(&reader, "boundaries"), dimension: try dimension(&reader))
        case "squash":
            let function = try reader.choice(
                "function", [("identity", SquashFunction.identity), ("log1p", .log1p)])
            let mean = try reader.number("mean", in: -1e30...1e30)
            return .squash(
                function: function, mean: mean, deviation: try reader.number("std", in: 1e-30...1e30))
        case "row": return .row(dimension: try dimension(&reader))
        case "pool":
            guard hasTable else {
                throw JSONSchemaError(.missing, reader.pointer(to: "table"), "required field is missing")
            }
            let last = try reader.integer("last", in: 1...4096)
            let pooling = try reader.required("pooling", try pooling(&reader))
            let actions =
                reader.object["actions"] == nil ? nil : try strings(&reader, "actions", maximum: 256)
            return .pool(dimension: try dimension(&reader), last: last, pooling: pooling, actions: actions)
        default:
            let stage = try reader.choice("stage", Stage.allCases.map { ($0.rawValue, $0) })
            let mean = try reader.optionalNumber("mean", in: -1e30...1e30) ?? 0
            return .stage(
                stage, mean: mean, deviation: try reader.optionalNumber("std", in: 1e-30...1e30) ?? 1)
        }
    }

    private static func dimension(_ reader: inout JSONObjectReader) throws(JSONSchemaError) -> Int {
        try reader.integer("dimension", in: 1...dimensionMaximum)
    }

    private static func pooling(_ reader: inout JSONObjectReader) throws(JSONSchemaError) -> Pooling? {
        guard reader.value("pooling") != nil else { return nil }
        return try reader.choice("pooling", [("mean", Pooling.mean), ("sum", .sum)])
    }

    static func strings(_ reader: inout JSONObjectReader, _ name: String, maximum: Int)
        throws(JSONSchemaError) -> [String]
    {
        var strings: [String] = []
        for (index, value) in try reader.array(name, maximum: maximum).enumerated() {
            strings.append(
                try JSONObjectReader.string(
                    value, at: reader.pointer(to: name) + "/\(index)", bytes: 0...1024))
        }
        return strings
    }

    /// Finite numbers in ascending order, at most 65,536 of them.
    static func ascending(_ reader: inout JSONObjectReader, _ name: String) throws(JSONSchemaError)
        -> [Double]
    {
        var numbers: [Double] = []
        for (index, value) in try reader.array(name, maximum: 65_536).enumerated() {
            let pointer = reader.pointer(to: name) + "/\(index)"
            let number = try JSONObjectReader.number(value, at: pointer, in: -1e300...1e300)
            if let last = numbers.last, number <= last {
                throw JSONSchemaError(.outOfRange, pointer, "expected ascending numbers")
            }
            numbers.append(number)
        }
        return numbers
    }
}
