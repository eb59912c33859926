internal import Artifacts
internal import Features
internal import Kernels

/// SASRec's frozen weights (Kang & McAuley 2018; three placements of the norms; ModelFormat.md §3.4).
final class SASRecModel: Sendable {
    /// One block; D model, F feed-forward width.
    struct Block: Sendable {
        let input: Matrix  // [3D, D]: q, k, v
        let inputBias: Matrix  // [1, 3D]
        let output: Matrix  // [D, D]
        let outputBias: Matrix  // [1, D]
        let attentionNorm: Norm
        let feedForwardNorm: Norm
        let first: Matrix  // [F, D]
        let firstBias: Matrix  // [1, F]
        let second: Matrix  // [D, F]
        let secondBias: Matrix  // [1, D]
        /// Key and value of a pad, [1, 2D]; all pads of a block are alike.
        let pad: Matrix
    }
    /// An affine layer norm, [1, D] each.
    struct Norm: Sendable {
        let weight: Matrix
        let bias: Matrix
    }

    static let normEpsilon: Float = 1e-8

    let variant: SequenceConfiguration.SASRecVariant
    let attendsPads: Bool
    let dimension: Int
    let heads: Int
    let maxEvents: Int
    let items: Matrix  // [I, D]
    let positions: Matrix  // [N + 1, D]
    let blocks: [Block]
    let finalNorm: Norm
    let feedForwardWidth: Int

    var headWidth: Int { dimension / heads }

    init(
        _ configuration: SequenceConfiguration, itemCount: Int, tensors: BundleTensors, tables: SharedTables
    ) throws(BundleError) {
        guard case .sasrec(let variant, let attendsPads) = configuration.family else {
            preconditionFailure("not a SASRec configuration")
        }
        self.variant = variant
        self.attendsPads = attendsPads
        dimension = configuration.dimension
        heads = configuration.heads
        maxEvents = configuration.maxEvents
        guard dimension % heads == 0 else {
            throw BundleError(
                file: "manifest.json", tensor: "/sequence/heads", expected: "a divisor of \(dimension)",
                found: "\(heads)")
        }
        items = try tables.matrix("sequence.item_embedding.weight", rows: itemCount, columns: dimension)
        positions = try tensors.matrix(
            "sequence.position_embedding.weight", rows: maxEvents + 1, columns: dimension)
        var blocks: [Block] = []
        for l in 0..<configuration.layers {
            blocks.append(try Self.block("sequence.layers.\(l).", dimension, variant, tensors))
        }
        self.blocks = blocks
        feedForwardWidth = blocks.map(\.first.rows).max() ?? 0
        finalNorm = try Self.norm("sequence.final_norm", dimension, tensors)
    }

    private static func norm(_ name: String, _ dimension: Int, _ tensors: BundleTensors) throws(BundleError)
        -> Norm
    {
        Norm(
            weight: try tensors.vector(name + ".weight", count: dimension),
            bias: try tensors.vector(name + ".bias", count: dimension))
    }

    private static func block(
        _ prefix: String, _ d: Int, _ variant: SequenceConfiguration.SASRecVariant, _ tensors: BundleTensors
    ) throws(BundleError) -> Block {
        let input = try tensors.matrix(prefix + "attention.in_proj_weight", rows: 3 * d, columns: d)
        let inputBias = try tensors.vector(prefix + "attention.in_proj_bias", count: 3 * d)
        let attentionNorm = try norm(prefix + "attention_norm", d, tensors)
        let first = try tensors.matrix(prefix + "ffn.0.weight", minimumRows: 1, columns: d)
        // A pad is zero at the block's input: zero keys before the projection, or after pre_norm's layer norm
        // its bias.
        let pad = MutableMatrix(rows: 1, columns: 2 * d)
        let padInput = MutableMatrix(rows: 1, columns: d)
        if variant == .preNorm { padInput.view.copyRow(0, from: attentionNorm.bias.view, row: 0) }
        linear(
            padInput.view.reading, weight: input.view(rows: d..<3 * d),
            bias: inputBias.view(rows: 0..<1, columns: d..<3 * d),
            into: pad.view)
        return Block(
            input: input, inputBias: inputBias,
            output: try tensors.matrix(prefix + "attention.out_proj.weight", rows: d, columns: d),
            outputBias: try tensors.vector(prefix + "attention.out_proj.bias", count: d),
            attentionNorm: attentionNorm,
            feedForwardNorm: try norm(prefix + "ffn_norm", d, tensors), first: first,
            firstBias: try tensors.vector(prefix + "ffn.0.bias", count: first.rows),
            second: try tensors.matrix(prefix + "ffn.1.weight", rows: d, columns: first.rows),
            secondBias: try tensors.vector(prefix + "ffn.1.bias", count: d),
            pad: Matrix(rows: 1, columns: 2 * d, values: pad.copyRow(0)))
    }
}
