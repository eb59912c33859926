public import JSON

/// What a bundle is: versions, shapes, feature schema and stage configurations, as ModelFormat.md §3 defines them.
///
/// A value of this type is validated in itself; tensors are checked against it when the stages are made.
public struct Manifest: Sendable {
    public var modelVersion: String
    public var spaceVersion: String
    /// Free text of the trainer, returned by `/version`.
    public var info: JSONValue
    public var files: [String: FileEntry]
    public var items: ItemsConfiguration
    public var users: UsersConfiguration?
    public var features: [FeatureDefinition]
    public var retrieval: RetrievalConfiguration
    public var tower: TowerConfiguration?
    public var sequence: SequenceConfiguration?
    public var ranker: RankerConfiguration?
    public var value: ValueConfiguration?
    /// Relative tolerance of the golden replay.
    public var tolerance: Double
}

/// A file of the bundle as the manifest promises it.
public struct FileEntry: Sendable, Equatable {
    public let sha256: String
    public let byteCount: Int
}

/// How an attribute is stored.
public enum AttributeType: String, Sendable {
    case string, strings, number, boolean
}

/// A typed column of items or users.
public struct AttributeDefinition: Sendable {
    public let name: String
    public let type: AttributeType
    public let isFilterable: Bool

    public init(name: String, type: AttributeType, isFilterable: Bool = false) {
        self.name = name
        self.type = type
        self.isFilterable = isFilterable
    }
}

/// The catalogue: `count` rows and their attributes.
public struct ItemsConfiguration: Sendable {
    public let count: Int
    public let attributes: [AttributeDefinition]

    public init(count: Int, attributes: [AttributeDefinition] = []) {
        self.count = count
        self.attributes = attributes
    }
}

/// The known users, their attributes, and whether starting histories are there.
public struct UsersConfiguration: Sendable {
    public let count: Int
    public let attributes: [AttributeDefinition]
    public let hasHistories: Bool

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
    public let name: String
    public let origin: FeatureOrigin
    /// Field of the request's object, or attribute, that is read.
    public let key: String
    public let encoding: FeatureEncoding
    /// Name of the embedding tensor.
    public let table: String

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

// MARK: - Stages

/// How closeness of two vectors is measured; larger is closer (`l2` is the negative squared distance).
public enum Metric: String, Sendable, CaseIterable {
    case innerProduct = "inner_product"
    case cosine, l2
}

/// What is done to a vector at a model's end.
public enum VectorNormalization: String, Sendable { case l2, none }

/// FAISS's parameters.
public struct IndexConfiguration: Sendable {
    public enum Kind: String, Sendable { case ivfpq, flat }
    public var kind: Kind
    public var lists: Int
    public var subquantizers: Int
    public var bits: Int
    public var probes: Int

    public init(kind: Kind, lists: Int = 1, subquantizers: Int = 1, bits: Int = 8, probes: Int = 1) {
        self.kind = kind
        self.lists = lists
        self.subquantizers = subquantizers
        self.bits = bits
        self.probes = probes
    }
}

/// Most candidates per source; 0 turns a source off.
public struct SourceQuotas: Sendable {
    public var tower: Int
    public var sequence: Int
    public var itemToItem: Int
    public var popular: Int

    public init(tower: Int = 0, sequence: Int = 0, itemToItem: Int = 0, popular: Int = 0) {
        self.tower = tower
        self.sequence = sequence
        self.itemToItem = itemToItem
        self.popular = popular
    }
}

/// The candidate stage.
public struct RetrievalConfiguration: Sendable {
    public var metric: Metric
    public var dimension: Int
    /// Size of the merged candidate list.
    public var candidates: Int
    /// Codes re-ranked exactly per result asked for.
    public var shortlistFactor: Int
    public var index: IndexConfiguration
    public var quotas: SourceQuotas

    public init(
        metric: Metric, dimension: Int, candidates: Int = 500, shortlistFactor: Int = 4,
        index: IndexConfiguration, quotas: SourceQuotas
    ) {
        self.metric = metric
        self.dimension = dimension
        self.candidates = candidates
        self.shortlistFactor = shortlistFactor
        self.index = index
        self.quotas = quotas
    }
}

/// The user tower's shape.
public struct TowerConfiguration: Sendable {
    public var inputs: [String]
    public var layers: Int
    public var activation: String
    public var normalize: VectorNormalization

    public init(
        inputs: [String], layers: Int, activation: String = "relu", normalize: VectorNormalization = .none
    ) {
        self.inputs = inputs
        self.layers = layers
        self.activation = activation
        self.normalize = normalize
    }
}

/// The retrieval head of a sequence model.
public struct DotHead: Sendable {
    public var normalize: VectorNormalization
    public var temperature: Double

    public init(normalize: VectorNormalization, temperature: Double = 1) {
        self.normalize = normalize
        self.temperature = temperature
    }
}

/// The history model's shape.
public struct SequenceConfiguration: Sendable {
    /// How SASRec's blocks place their norms (models of §3.4).
    public enum SASRecVariant: String, Sendable, CaseIterable {
        case original
        case preNorm = "pre_norm"
        case postNorm = "post_norm"
    }
    /// Which architecture, with the fields of its own.
    public enum Family: Sendable {
        case hstu(qkDimension: Int, valueDimension: Int, normalizer: Int, positionBias: Bool, timeBias: Bool)
        case sasrec(variant: SASRecVariant, attendPads: Bool)
    }
    public var family: Family
    public var dimension: Int
    public var layers: Int
    public var heads: Int
    public var maxEvents: Int
    public var windowBlock: Int
    public var actions: [String]
    public var dot: DotHead?
    public var hasTarget: Bool

    public init(
        family: Family, dimension: Int, layers: Int, heads: Int, maxEvents: Int, windowBlock: Int = 1,
        actions: [String] = ["unknown"],
        dot: DotHead? = nil, hasTarget: Bool = false
    ) {
        self.family = family
        self.dimension = dimension
        self.layers = layers
        self.heads = heads
        self.maxEvents = maxEvents
        self.windowBlock = windowBlock
        self.actions = actions
        self.dot = dot
        self.hasTarget = hasTarget
    }
}

/// What turns a task's logit into a probability.
public enum Calibration: Sendable, Equatable {
    case none
    case platt(a: Double, b: Double)
    case logitOffset(Double)
    /// Points of a piecewise linear map, both ascending, of one length ≥ 1.
    case isotonic(x: [Double], y: [Double])
}

/// One thing the ranker predicts.
public struct TaskDefinition: Sendable {
    public let name: String
    public let calibration: Calibration

    public init(name: String, calibration: Calibration = .none) {
        self.name = name
        self.calibration = calibration
    }
}

/// DCN-V2's shape.
public struct RankerConfiguration: Sendable {
    /// Whether the deep part reads the cross part's output or the input.
    public enum Structure: String, Sendable { case stacked, parallel }
    public var inputs: [String]
    public var structure: Structure
    public var crossLayers: Int
    /// 0 for full-rank cross matrices.
    public var crossRank: Int
    public var deep: [Int]
    public var activation: String
    public var tasks: [TaskDefinition]

    public init(
        inputs: [String], structure: Structure, crossLayers: Int, crossRank: Int = 0, deep: [Int],
        activation: String = "relu",
        tasks: [TaskDefinition]
    ) {
        self.inputs = inputs
        self.structure = structure
        self.crossLayers = crossLayers
        self.crossRank = crossRank
        self.deep = deep
        self.activation = activation
        self.tasks = tasks
    }
}

/// How task probabilities become one value.
public struct ValueConfiguration: Sendable {
    public enum Form: String, Sendable { case linear, log, power }
    public var form: Form
    public var weights: [String: Double]

    public init(form: Form, weights: [String: Double]) {
        self.form = form
        self.weights = weights
    }
}
