public import JSON
internal import RecCore

/// What a bundle is: versions, shapes, feature schema and stage configurations, as ModelFormat.md §3 defines
/// them.
///
/// A value of this type is validated in itself; tensors are checked against it when the stages are made.
public struct Manifest: Sendable {
    /// What a delta stands on; nil for a full bundle.
    public var delta: DeltaConfiguration?
    /// Name of this model, `[A-Za-z0-9._-]{1,64}`.
    public var modelVersion: String
    /// Name of the vector space; bundles that share it have comparable vectors.
    public var spaceVersion: String
    /// Free text of the trainer, returned by `/version`.
    public var info: JSONValue
    /// Every file of the folder but the manifest, by name.
    public var files: [String: FileEntry]
    /// The catalogue.
    public var items: ItemsConfiguration
    /// The known users, nil when the bundle has none.
    public var users: UsersConfiguration?
    /// All features, in the manifest's order; names are unique.
    public var features: [FeatureDefinition]
    /// How candidates are found.
    public var retrieval: RetrievalConfiguration
    /// The user tower, nil when the bundle has none.
    public var tower: TowerConfiguration?
    /// The history model, nil when the bundle has none.
    public var sequence: SequenceConfiguration?
    /// The ranker, nil when the bundle has none.
    public var ranker: RankerConfiguration?
    /// How task probabilities become one value; there exactly when `ranker` is.
    public var value: ValueConfiguration?
    /// Named profiles of pages, in the manifest's order.
    public var placements: [PlacementConfiguration]
    /// The experiment users take part in, nil when there is none.
    public var experiment: ExperimentConfiguration?
    /// Relative tolerance of the golden replay.
    public var tolerance: Double

    /// Whether the bundle or one of its placements takes candidates from the sequence model.
    public var usesSequenceSource: Bool {
        retrieval.quotas.sequence > 0 || placements.contains { $0.quotas[.sequence] ?? 0 > 0 }
    }

    /// Whether `text` matches `[A-Za-z0-9._-]{1,64}`, as names of models, placements and arms do.
    public static func isLabel(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }
}

/// What a delta bundle takes from another (ModelFormat.md §5).
public struct DeltaConfiguration: Sendable {
    /// SHA-256 of the base's manifest.json, 64 lower-case hexadecimal digits.
    public let base: String
    /// Tensors of the base that the result does not have.
    public let removed: [String]
}

/// A file of the bundle as the manifest promises it.
public struct FileEntry: Sendable, Equatable {
    /// 64 lower-case hexadecimal digits, compared as text.
    public let sha256: String
    /// Size in bytes.
    public let byteCount: Int
}

/// How an attribute is stored.
public enum AttributeType: String, Sendable {
    case string, strings, number, boolean
}

/// A typed column of items or users.
public struct AttributeDefinition: Sendable {
    /// `[a-z0-9_]{1,64}`, unique among the columns of its side.
    public let name: String
    /// How the column is stored and compared.
    public let type: AttributeType
    /// Whether a request's filter may name it.
    public let isFilterable: Bool

    /// A column; not filterable unless said.
    public init(name: String, type: AttributeType, isFilterable: Bool = false) {
        self.name = name
        self.type = type
        self.isFilterable = isFilterable
    }
}

/// The catalogue: `count` rows and their attributes.
public struct ItemsConfiguration: Sendable {
    /// Number of items, 1…2³⁰.
    public let count: Int
    /// The items' columns, in manifest order.
    public let attributes: [AttributeDefinition]

    /// A catalogue of `count` items.
    public init(count: Int, attributes: [AttributeDefinition] = []) {
        self.count = count
        self.attributes = attributes
    }
}

/// The known users, their attributes, and whether starting histories are there.
public struct UsersConfiguration: Sendable {
    /// Number of known users, 0…2³⁰.
    public let count: Int
    /// The stored user features, in manifest order.
    public let attributes: [AttributeDefinition]
    /// Whether the tensors `history.…` are there.
    public let hasHistories: Bool

    /// `count` known users.
    public init(count: Int, attributes: [AttributeDefinition] = [], hasHistories: Bool = false) {
        self.count = count
        self.attributes = attributes
        self.hasHistories = hasHistories
    }
}

// MARK: - Features

/// Where a feature's value comes from.
public enum FeatureOrigin: String, Sendable, CaseIterable {
    case user, item, context, history, stage
    case userID = "user_id"
    case itemID = "item_id"
}

/// How several values or events become one vector.
public enum Pooling: String, Sendable { case mean, sum }

/// The function a squashed number goes through before it is standardised.
public enum SquashFunction: String, Sendable { case identity, log1p }

/// A number or vector that an earlier stage made.
public enum Stage: String, Sendable, CaseIterable {
    case towerScore = "tower.score"
    case towerUserVector = "tower.user_vector"
    case towerItemVector = "tower.item_vector"
    case sequenceDot = "sequence.dot"
    case sequenceScore = "sequence.score"
    case sequenceVector = "sequence.vector"
    case itemPopularity = "item.popularity"
}

/// How a value becomes columns of an input row (ModelFormat.md §3.1).
public enum FeatureEncoding: Sendable {
    case vocabulary([String], dimension: Int, pooling: Pooling?)
    case hash(buckets: Int, dimension: Int, pooling: Pooling?)
    case bins([Double], dimension: Int)
    case squash(function: SquashFunction, mean: Double, deviation: Double)
    case row(dimension: Int)
    case pool(dimension: Int, last: Int, pooling: Pooling, actions: [String]?)
    case stage(Stage, mean: Double, deviation: Double)
}

/// One named feature.
public struct FeatureDefinition: Sendable {
    /// `[a-z0-9_]{1,64}`, unique in the bundle.
    public let name: String
    /// Where the value comes from.
    public let origin: FeatureOrigin
    /// Field of the request's object, or attribute, that is read.
    public let key: String
    /// How the value becomes columns.
    public let encoding: FeatureEncoding
    /// Name of the embedding tensor.
    public let table: String

    /// A feature; `key` is `name` and `table` is `feature.<name>.weight` unless given.
    public init(
        name: String, origin: FeatureOrigin, key: String? = nil, encoding: FeatureEncoding,
        table: String? = nil
    ) {
        self.name = name
        self.origin = origin
        self.key = key ?? name
        self.encoding = encoding
        self.table = table ?? "feature.\(name).weight"
    }
}
