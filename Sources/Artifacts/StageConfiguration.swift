/// How closeness of two vectors is measured; larger is closer (`l2` is the negative squared distance).
public enum Metric: String, Sendable, CaseIterable {
    case innerProduct = "inner_product"
    case cosine, l2
}

/// What is done to a vector at a model's end.
public enum VectorNormalization: String, Sendable { case l2, none }

/// FAISS's parameters.
public struct IndexConfiguration: Sendable {
    /// Inverted lists of product-quantised codes, or an exact scan.
    public enum Kind: String, Sendable { case ivfpq, flat }
    /// Which index it is; the other fields matter for `ivfpq` only.
    public var kind: Kind
    /// FAISS's nlist, the number of inverted lists.
    public var lists: Int
    /// FAISS's M, bytes per code at 8 bits; divides the dimension.
    public var subquantizers: Int
    /// FAISS's nbits, bits per sub-quantiser, 4…12.
    public var bits: Int
    /// Lists scanned per query, 1…`lists`.
    public var probes: Int

    /// Parameters that suit `flat`; give the others for `ivfpq`.
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
    /// From the user tower's vector.
    public var tower: Int
    /// From the history model's last row; needs a dot head.
    public var sequence: Int
    /// From the neighbours of the last events' items.
    public var itemToItem: Int
    /// From the popularity list.
    public var popular: Int

    /// Quotas; each source is off unless given.
    public init(tower: Int = 0, sequence: Int = 0, itemToItem: Int = 0, popular: Int = 0) {
        self.tower = tower
        self.sequence = sequence
        self.itemToItem = itemToItem
        self.popular = popular
    }
}

/// The candidate stage.
public struct RetrievalConfiguration: Sendable {
    /// How query and item vectors are compared.
    public var metric: Metric
    /// Columns of `item.vector`, 1…4096.
    public var dimension: Int
    /// Size of the merged candidate list.
    public var candidates: Int
    /// Codes re-ranked exactly per result asked for.
    public var shortlistFactor: Int
    /// The index over `item.vector`.
    public var index: IndexConfiguration
    /// How much each source may give.
    public var quotas: SourceQuotas

    /// A candidate stage with the format's defaults.
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
    /// Names of the features that make the input row, in column order.
    public var inputs: [String]
    /// Linear layers, 0…64; with 0 the input row is the output.
    public var layers: Int
    /// Name of the function after every layer but the last: an `Activation`'s raw value.
    public var activation: String
    /// What is done to the output vector.
    public var normalize: VectorNormalization

    /// A tower with the format's defaults.
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
    /// What is done to the last row and to the item rows before the dot product.
    public var normalize: VectorNormalization
    /// Divisor the model was trained with, > 0; the scores served are without it.
    public var temperature: Double

    /// A head; temperature 1 unless given.
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
    /// The architecture.
    public var family: Family
    /// D, the width of a token, 1…4096; divisible by `heads` for SASRec.
    public var dimension: Int
    /// Number of blocks, 1…64.
    public var layers: Int
    /// Attention heads h, 1…64.
    public var heads: Int
    /// N, most events the model sees, 1…8192.
    public var maxEvents: Int
    /// B, the step by which the window's start moves, 1…`maxEvents`.
    public var windowBlock: Int
    /// Names of the actions; entry 0 is `unknown`.
    public var actions: [String]
    /// The retrieval head, nil when there is none.
    public var dot: DotHead?
    /// Whether the model scores candidates with a head of their own; HSTU only.
    public var hasTarget: Bool

    /// A model without heads, seeing events one by one, unless said.
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
    /// `[a-z0-9_]{1,64}`, unique among the tasks.
    public let name: String
    /// From logit to probability.
    public let calibration: Calibration

    /// A task; not calibrated unless said.
    public init(name: String, calibration: Calibration = .none) {
        self.name = name
        self.calibration = calibration
    }
}

/// DCN-V2's shape.
public struct RankerConfiguration: Sendable {
    /// Whether the deep part reads the cross part's output or the input.
    public enum Structure: String, Sendable { case stacked, parallel }
    /// Names of the features that make x0, in column order; at least one.
    public var inputs: [String]
    /// How cross and deep part are joined.
    public var structure: Structure
    /// Cross layers, 0…64.
    public var crossLayers: Int
    /// 0 for full-rank cross matrices.
    public var crossRank: Int
    /// Widths of the deep layers; empty for no deep part.
    public var deep: [Int]
    /// Name of the function after every deep layer: an `Activation`'s raw value.
    public var activation: String
    /// The tasks in the order of the head's rows; at least one.
    public var tasks: [TaskDefinition]

    /// A ranker with full-rank cross matrices and ReLU unless said.
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
    /// Weighted sum of p, weighted sum of ln p, or product of powers of p.
    public enum Form: String, Sendable { case linear, log, power }
    /// Which of the three.
    public var form: Form
    /// Weight by task name, −10⁶…10⁶; a task without one counts as 0.
    public var weights: [String: Double]

    /// A form and its weights.
    public init(form: Form, weights: [String: Double]) {
        self.form = form
        self.weights = weights
    }
}
