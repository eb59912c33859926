internal import Artifacts
internal import Features
internal import Kernels

/// HSTU's frozen weights, in the research form: bias in the score, pointwise SiLU attention divided by a
/// constant (Zhai et al. 2024; ModelFormat.md §3.4).
final class HSTUModel: Sendable {
    /// One layer; D model, h heads, dqk and dv per head.
    struct Layer: Sendable {
        let uvqk: PackedMatrix  // [2h·dv + 2h·dqk, D]: u, v, q, k, heads outer
        let uvqkBias: Matrix?  // [1, 2h·dv + 2h·dqk]
        let output: PackedMatrix  // [D, h·dv]
        let outputBias: Matrix  // [1, D]
        let positionBias: Matrix?  // [1, 2n − 1]
        let timeBias: Matrix?  // [1, 129]
    }
    /// The ranking head.
    struct TargetHead: Sendable {
        let normWeight: Matrix  // [1, D]
        let normBias: Matrix  // [1, D]
        let weight: Matrix  // [1, D]
        let bias: Float
    }

    static let normEpsilon: Float = 1e-6

    let dimension: Int
    let heads: Int
    let keyDimension: Int
    let valueDimension: Int
    /// The constant n that scores are divided by.
    let normalizer: Int
    let maxEvents: Int
    let items: Matrix  // [I, D]
    let actions: Matrix?  // [actions + 1, D], the last row is the target's
    let positions: Matrix  // [≥ N + 1, D]
    let layers: [Layer]
    let target: TargetHead?
    let buckets = TimeBuckets()

    var keyWidth: Int { heads * keyDimension }
    var valueWidth: Int { heads * valueDimension }
    var hasTimeBias: Bool { layers.first?.timeBias != nil }

    /// Reads the tensors of `sequence.…`; traps when `configuration` is of another family.
    /// - Throws: naming the first tensor that is absent or does not fit.
    init(
        _ configuration: SequenceConfiguration, itemCount: Int, tensors: BundleTensors, tables: SharedTables
    ) throws(BundleError) {
        guard case .hstu(let qk, let v, let n, let hasPosition, let hasTime) = configuration.family else {
            preconditionFailure("not an HSTU configuration")
        }
        dimension = configuration.dimension
        heads = configuration.heads
        keyDimension = qk
        valueDimension = v
        normalizer = n
        maxEvents = configuration.maxEvents
        items = try tables.matrix(
            "sequence.item_embedding.weight", rows: itemCount, columns: configuration.dimension)
        let actionTable = "sequence.action_embedding.weight"
        if tensors.contains(actionTable) {
            actions = try tensors.matrix(
                actionTable, rows: configuration.actions.count + 1, columns: dimension)
        } else {
            guard !configuration.hasTarget else {
                throw BundleError(
                    file: "manifest.json", tensor: actionTable, expected: "a row for the target head",
                    found: "no tensor")
            }
            actions = nil
        }
        positions = try tensors.matrix(
            "sequence.position_embedding.weight", minimumRows: maxEvents + 1, columns: dimension)
        var layers: [Layer] = []
        for l in 0..<configuration.layers {
            let prefix = "sequence.layers.\(l)."
            let width = 2 * heads * (qk + v)
            let bias = prefix + "uvqk.bias"
            layers.append(
                Layer(
                    uvqk: PackedMatrix(
                        try tensors.matrix(prefix + "uvqk.weight", rows: width, columns: dimension)),
                    uvqkBias: tensors.contains(bias) ? try tensors.vector(bias, count: width) : nil,
                    output: PackedMatrix(
                        try tensors.matrix(prefix + "output.weight", rows: dimension, columns: heads * v)),
                    outputBias: try tensors.vector(prefix + "output.bias", count: dimension),
                    positionBias: hasPosition
                        ? try tensors.vector(prefix + "position_bias", count: 2 * n - 1) : nil,
                    timeBias: hasTime
                        ? try tensors.vector(prefix + "time_bias", count: TimeBuckets.count) : nil))
        }
        self.layers = layers
        target =
            configuration.hasTarget
            ? TargetHead(
                normWeight: try tensors.vector("sequence.target.norm.weight", count: dimension),
                normBias: try tensors.vector("sequence.target.norm.bias", count: dimension),
                weight: try tensors.matrix("sequence.target.weight", rows: 1, columns: dimension),
                bias: try tensors.vector("sequence.target.bias", count: 1)[0, 0]) : nil
    }
}
