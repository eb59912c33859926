public import Artifacts
internal import Kernels
public import RecCore

/// The features of a bundle with their tables, checked against the manifest and the tensors (ModelFormat.md
/// §3.1).
public struct FeatureSchema: Sendable {
    /// Who reads an input row.
    public enum Reader: String, Sendable {
        /// The user tower: features of user, user id, history and context.
        case tower
        /// The ranker: all features.
        case ranker
    }

    /// A feature ready for use.
    enum Feature: Sendable {
        case user(ValueEncoder)
        case context(ValueEncoder)
        /// `attribute` is the number in the manifest's list, nil when only requests give the value.
        case item(ValueEncoder, attribute: Int?)
        case userRow(Matrix)
        case itemRow(Matrix)
        /// `actions` nil: all.
        case pool(Matrix, last: Int, pooling: Pooling, actions: Set<Int>?)
        case stage(Stage, width: Int, mean: Double, deviation: Double)

        var width: Int {
            switch self {
            case .user(let encoder), .context(let encoder), .item(let encoder, _): encoder.width
            case .userRow(let table), .itemRow(let table), .pool(let table, _, _, _): table.columns
            case .stage(_, let width, _, _): width
            }
        }
    }

    let features: [String: Feature]
    let itemCount: Int
    /// The encoders that read a key of a request's object, by where the key is.
    private let readers: [FeatureOrigin: [String: [ValueEncoder]]]

    /// Reads every feature's table, used or not.
    /// - Throws: naming the first feature or tensor that does not fit.
    public init(_ manifest: Manifest, tables: SharedTables) throws(BundleError) {
        var features: [String: Feature] = [:]
        for definition in manifest.features {
            let feature = try Self.feature(definition, manifest, tables)
            guard features.updateValue(feature, forKey: definition.name) == nil else {
                throw Self.refuse(definition, "a name of its own", "the name twice")
            }
        }
        self.features = features
        itemCount = manifest.items.count
        var readers: [FeatureOrigin: [String: [ValueEncoder]]] = [:]
        for definition in manifest.features {
            switch features[definition.name] {
            case .user(let encoder), .context(let encoder), .item(let encoder, _):
                readers[definition.origin, default: [:]][encoder.key, default: []].append(encoder)
            default: break
            }
        }
        self.readers = readers
    }

    /// Refuses values that a feature of `origin` (user, context or item) could not encode, without encoding
    /// them.
    /// - Throws: naming the first of them by key.
    public func check(_ values: FeatureValues, from origin: FeatureOrigin) throws(FeatureError) {
        guard let readers = readers[origin], !values.isEmpty else { return }
        for (key, value) in values.sorted(by: { $0.key < $1.key }) {
            for encoder in readers[key] ?? [] { try encoder.check(value) }
        }
    }

    /// Whether any feature of `origin` is made from this key.
    public func reads(_ key: String, from origin: FeatureOrigin) -> Bool { readers[origin]?[key] != nil }

    /// The encoder of input rows that are the concatenation of `inputs`.
    ///
    /// Catalogue attributes are looked up here, once for all items.
    /// - Parameter tableMaximum: bytes that may be spent on encoding them here too.
    /// - Throws: for an unknown or repeated name, one its reader may not use, or an attribute that cannot be
    ///   encoded.
    public func encoder(
        inputs: [String], for reader: Reader, attributes: some ItemAttributes = NoItemAttributes(),
        tableMaximum: Int = FeatureEncoder.itemTableMaximum
    ) throws(BundleError) -> FeatureEncoder {
        var columns: [FeatureEncoder.Column] = []
        var offset = 0
        var seen: Set<String> = []
        for (index, name) in inputs.enumerated() {
            let pointer = "/\(reader.rawValue)/inputs/\(index)"
            guard let feature = features[name] else {
                throw BundleError(
                    file: "manifest.json", tensor: pointer, expected: "a feature's name", found: name)
            }
            guard seen.insert(name).inserted else {
                throw BundleError(
                    file: "manifest.json", tensor: pointer, expected: "each feature once", found: name)
            }
            var itemColumn: ItemColumn?
            switch feature {
            case .item, .itemRow, .stage:
                guard reader == .ranker else {
                    throw BundleError(
                        file: "manifest.json", tensor: pointer,
                        expected: "a feature of user, user_id, history or context",
                        found: name)
                }
                if case .item(let encoder, .some(let attribute)) = feature {
                    do throws(FeatureError) {
                        itemColumn = try ItemColumn(encoder, count: itemCount) {
                            attributes.value(row: $0, attribute: attribute)
                        }
                    } catch {
                        throw BundleError(
                            file: "manifest.json", tensor: pointer,
                            expected: "attributes the feature can encode",
                            found: error.description)
                    }
                }
            case .user, .context, .userRow, .pool: break
            }
            columns.append(FeatureEncoder.Column(offset: offset, feature: feature, items: itemColumn))
            offset += feature.width
        }
        return FeatureEncoder(
            inputs: inputs, width: offset, columns: columns, itemCount: itemCount, tableMaximum: tableMaximum)
    }

    private static func refuse(_ definition: FeatureDefinition, _ expected: String, _ found: String)
        -> BundleError
    {
        BundleError(
            file: "manifest.json", tensor: "/features/\(definition.name)", expected: expected, found: found)
    }

    // MARK: One feature

    private static func feature(
        _ definition: FeatureDefinition, _ manifest: Manifest, _ tables: SharedTables
    ) throws(BundleError) -> Feature {
        switch (definition.origin, definition.encoding) {
        case (.userID, .row(let dimension)):
            let rows = (manifest.users?.count ?? 0) + 1
            return .userRow(try tables.matrix(definition.table, rows: rows, columns: dimension))
        case (.itemID, .row(let dimension)):
            return .itemRow(
                try tables.matrix(definition.table, rows: manifest.items.count, columns: dimension))
        case (.history, .pool(let dimension, let last, let pooling, let names)):
            guard (1...4096).contains(last) else { throw refuse(definition, "last in 1...4096", "\(last)") }
            let table = try tables.matrix(definition.table, rows: manifest.items.count, columns: dimension)
            let actions = try names.map { names throws(BundleError) in
                try actionIndices(names, definition, manifest)
            }
            return .pool(table, last: last, pooling: pooling, actions: actions)
        case (.stage, .stage(let stage, let mean, let deviation)):
            guard mean.isFinite, deviation.isFinite, deviation > 0 else {
                throw refuse(definition, "std above 0", "\(deviation)")
            }
            let width = try stageWidth(stage, definition, manifest)
            return .stage(stage, width: width, mean: mean, deviation: deviation)
        case (.user, _):
            let encoder = try valueEncoder(definition, tables)
            let stored = manifest.users?.attributes.first { $0.name == definition.key }
            try checkPooling(definition, encoder, stored)
            return .user(encoder)
        case (.context, _): return .context(try valueEncoder(definition, tables))
        case (.item, _):
            let encoder = try valueEncoder(definition, tables)
            let attribute = manifest.items.attributes.firstIndex { $0.name == definition.key }
            try checkPooling(definition, encoder, attribute.map { manifest.items.attributes[$0] })
            return .item(encoder, attribute: attribute)
        default: throw refuse(definition, "an encoding for \(definition.origin.rawValue)", "another")
        }
    }

    private static func valueEncoder(
        _ definition: FeatureDefinition, _ tables: SharedTables
    ) throws(BundleError) -> ValueEncoder {
        let kind: ValueEncoder.Kind
        switch definition.encoding {
        case .vocabulary(let words, let dimension, let pooling):
            var rows: [[UInt8]: Int] = [:]
            for (index, word) in words.enumerated() {
                guard rows.updateValue(index + 1, forKey: Array(word.utf8)) == nil else {
                    throw refuse(definition, "different words", "\(word) twice")
                }
            }
            let table = try tables.matrix(definition.table, rows: words.count + 1, columns: dimension)
            kind = .words(.vocabulary(rows), pooling: pooling, table: table)
        case .hash(let buckets, let dimension, let pooling):
            guard buckets > 0 else { throw refuse(definition, "buckets", "\(buckets)") }
            let table = try tables.matrix(definition.table, rows: buckets + 1, columns: dimension)
            kind = .words(.hash(buckets: UInt64(buckets)), pooling: pooling, table: table)
        case .bins(let boundaries, let dimension):
            guard zip(boundaries, boundaries.dropFirst()).allSatisfy({ $0 < $1 }) else {
                throw refuse(definition, "ascending boundaries", "others")
            }
            kind = .bins(
                boundaries,
                table: try tables.matrix(definition.table, rows: boundaries.count + 2, columns: dimension))
        case .squash(let function, let mean, let deviation):
            guard mean.isFinite, deviation.isFinite, deviation > 0 else {
                throw refuse(definition, "std above 0", "\(deviation)")
            }
            kind = .squash(function, mean: mean, deviation: deviation)
        case .row, .pool, .stage:
            throw refuse(definition, "an encoding for \(definition.origin.rawValue)", "another")
        }
        return ValueEncoder(feature: definition.name, key: definition.key, kind: kind)
    }

    /// A multi-valued attribute needs a feature that pools.
    private static func checkPooling(
        _ definition: FeatureDefinition, _ encoder: ValueEncoder, _ attribute: AttributeDefinition?
    ) throws(BundleError) {
        if attribute?.type == .strings, !encoder.isPooled {
            throw refuse(definition, "pooling, as the attribute \(definition.key) is multi-valued", "none")
        }
    }

    private static func actionIndices(
        _ names: [String], _ definition: FeatureDefinition, _ manifest: Manifest
    ) throws(BundleError) -> Set<Int> {
        var indices: Set<Int> = []
        for name in names {
            guard let index = manifest.sequence?.actions.firstIndex(of: name) else {
                throw refuse(definition, "an action of the sequence model", name)
            }
            indices.insert(index)
        }
        return indices
    }

    private static func stageWidth(
        _ stage: Stage, _ definition: FeatureDefinition, _ manifest: Manifest
    ) throws(BundleError) -> Int {
        let (width, isThere) =
            switch stage {
            case .towerScore: (1, manifest.tower != nil)
            case .towerUserVector: (manifest.retrieval.dimension, manifest.tower != nil)
            case .towerItemVector: (manifest.retrieval.dimension, true)
            case .sequenceDot: (1, manifest.sequence?.dot != nil)
            case .sequenceScore: (1, manifest.sequence?.hasTarget == true)
            case .sequenceVector: (manifest.sequence?.dimension ?? 0, manifest.sequence?.hasTarget == true)
            case .itemPopularity: (1, true)
            }
        guard isThere else { throw refuse(definition, "a stage of this bundle", stage.rawValue) }
        return width
    }
}
