internal import Artifacts
internal import Features
internal import Kernels

/// HSTU's frozen weights, in the research form: bias in the score, pointwise SiLU attention divided by a
/// constant (Zhai et al. 2024; ModelFormat.md §3.4).
final class HSTUModel: Sendable {
    /// One layer; D model, h heads, dqk and dv per head.
    struct Layer: Sendable {
        /// What a row needs for its own output, [h·dv + h·dqk, D]: u, q, heads outer.
        let own: Projection
        /// What later rows and candidates need of it, [h·dv + h·dqk, D]: v, k, heads outer.
        let kept: Projection
        let output: PackedMatrix  // [D, h·dv]
        let outputBias: Matrix  // [1, D]
        let positionBias: Matrix?  // [1, 2n − 1]
        let timeBias: Matrix?  // [1, 129]
    }
    /// A linear map and its bias.
    struct Projection: Sendable {
        let weight: PackedMatrix
        let bias: Matrix?  // [1, outputs]
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
        guard case .hstu(let qk, let dv, let n, let hasPosition, let hasTime) = configuration.family else {
            preconditionFailure("not an HSTU configuration")
        }
        dimension = configuration.dimension
        heads = configuration.heads
        keyDimension = qk
        valueDimension = dv
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
        let (keyWidth, valueWidth) = (heads * qk, heads * dv)
        // The bundle's order of the outputs: u, v, q, k.
        let u = 0..<valueWidth
        let v = valueWidth..<2 * valueWidth
        let q = 2 * valueWidth..<2 * valueWidth + keyWidth
        let k = q.upperBound..<q.upperBound + keyWidth
        var layers: [Layer] = []
        for l in 0..<configuration.layers {
            let prefix = "sequence.layers.\(l)."
            let width = 2 * (valueWidth + keyWidth)
            let weight = try tensors.matrix(prefix + "uvqk.weight", rows: width, columns: dimension)
            let biasName = prefix + "uvqk.bias"
            let bias = tensors.contains(biasName) ? try tensors.vector(biasName, count: width) : nil
            layers.append(
                Layer(
                    own: Self.projection(weight, bias, of: [u, q]),
                    kept: Self.projection(weight, bias, of: [v, k]),
                    output: PackedMatrix(
                        try tensors.matrix(prefix + "output.weight", rows: dimension, columns: valueWidth)),
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
    /// The part of a projection that gives `outputs`, one range after the other.
    private static func projection(_ weight: Matrix, _ bias: Matrix?, of outputs: [Range<Int>]) -> Projection
    {
        let rows = outputs.flatMap(Array.init)
        let part = Matrix(
            rows: rows.count, columns: weight.columns,
            values: rows.flatMap { weight.view(rows: $0..<$0 + 1).copy() })
        return Projection(
            weight: PackedMatrix(part),
            bias: bias.map { bias in
                Matrix(rows: 1, columns: rows.count, values: rows.map { bias[0, $0] })
            })
    }
}
