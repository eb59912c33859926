public import Artifacts
public import Kernels

/// DCN-V2's frozen weights (Wang et al. 2020; ModelFormat.md §3.5). Shared by all threads; `DCNV2Run` is a
/// thread's scratch.
public final class DCNV2: Sendable {
    /// x = x0 ∘ (M x + b) + x with M [W, W], or M = U V with U [W, r] and V [r, W].
    enum Cross: Sendable {
        case full(PackedMatrix, bias: Matrix)
        case lowRank(u: PackedMatrix, v: PackedMatrix, bias: Matrix)
    }
    /// activation(weight x + bias).
    struct Deep: Sendable {
        let weight: PackedMatrix  // [out, in]
        let bias: Matrix  // [1, out]
    }

    let cross: [Cross]
    let deep: [Deep]
    let activation: Activation
    let isParallel: Bool
    let crossRank: Int
    let head: Matrix  // [T, deep out], or [T, W + deep out] when parallel
    let headBias: Matrix  // [1, T]
    /// Input columns, W.
    public let width: Int
    /// Outputs, T.
    public let taskCount: Int

    /// Reads the tensors of `ranker.…` for inputs of `width` columns.
    /// - Throws: naming the first tensor that is absent or does not fit.
    public init(_ configuration: RankerConfiguration, width: Int, tensors: BundleTensors) throws(BundleError)
    {
        guard let activation = Activation(rawValue: configuration.activation) else {
            throw BundleError(
                file: "manifest.json", tensor: "/ranker/activation", expected: "an activation",
                found: configuration.activation)
        }
        self.activation = activation
        self.width = width
        isParallel = configuration.structure == .parallel
        crossRank = configuration.crossRank
        taskCount = configuration.tasks.count
        let rank = configuration.crossRank
        var cross: [Cross] = []
        for l in 0..<configuration.crossLayers {
            let name = "ranker.cross.\(l)."
            let bias = try tensors.vector(name + "bias", count: width)
            if rank > 0 {
                cross.append(
                    .lowRank(
                        u: PackedMatrix(try tensors.matrix(name + "u.weight", rows: width, columns: rank)),
                        v: PackedMatrix(try tensors.matrix(name + "v.weight", rows: rank, columns: width)),
                        bias: bias))
            } else {
                cross.append(
                    .full(
                        PackedMatrix(try tensors.matrix(name + "weight", rows: width, columns: width)),
                        bias: bias))
            }
        }
        self.cross = cross
        var deep: [Deep] = []
        var input = width
        for (i, output) in configuration.deep.enumerated() {
            deep.append(
                Deep(
                    weight: PackedMatrix(
                        try tensors.matrix("ranker.deep.\(i).weight", rows: output, columns: input)),
                    bias: try tensors.vector("ranker.deep.\(i).bias", count: output)))
            input = output
        }
        self.deep = deep
        head = try tensors.matrix(
            "ranker.head.weight", rows: taskCount, columns: isParallel ? width + input : input)
        headBias = try tensors.vector("ranker.head.bias", count: taskCount)
    }
}

/// A forward pass of `DCNV2` with scratch allocated once; for one thread.
public final class DCNV2Run {
    /// Rows through all layers at once: x0 and x stay in cache, and the matrix products are still efficient.
    public static let blockRowsDefault = 64

    /// Rows at most in one call of `logits`.
    public let blockRows: Int
    private let model: DCNV2
    private let x: MutableMatrix  // [blockRows, W]
    private let product: MutableMatrix  // [blockRows, W]
    private let narrow: MutableMatrix  // [blockRows, r]
    private let hidden: [MutableMatrix]  // per deep layer [blockRows, out]
    private var sound: [Bool]

    /// Scratch for blocks of `blockRows` ≥ 1 rows; no result depends on the size.
    public init(_ model: DCNV2, blockRows: Int = blockRowsDefault) {
        precondition(blockRows >= 1, "blocks of \(blockRows) rows")
        self.model = model
        self.blockRows = blockRows
        x = MutableMatrix(rows: blockRows, columns: model.width)
        product = MutableMatrix(rows: blockRows, columns: model.width)
        narrow = MutableMatrix(rows: blockRows, columns: model.crossRank)
        hidden = model.deep.map { MutableMatrix(rows: blockRows, columns: $0.bias.columns) }
        sound = [Bool](repeating: true, count: blockRows)
    }

    /// Whether no NaN or infinity arose in row `row` of the last call: an activation may hide one from the
    /// logits.
    public func isSound(_ row: Int) -> Bool { sound[row] }

    /// Logits [m, T] of the input rows x0 [m, W]; m ≤ `blockRows`. No allocation.
    public func logits(_ x0: MatrixView, into logits: MutableMatrixView) {
        let rows = 0..<x0.rows
        precondition(x0.rows <= blockRows && x0.columns == model.width, "input [\(x0.rows), \(x0.columns)]")
        precondition(
            logits.rows == x0.rows && logits.columns == model.taskCount,
            "output [\(logits.rows), \(logits.columns)]")
        for row in rows { sound[row] = true }
        let crossed = crossPart(x0, rows)
        check(crossed)
        let last = deepPart(model.isParallel ? x0 : crossed, rows)
        if model.isParallel {
            let all = 0..<model.taskCount
            let crossHead = model.head.view(rows: all, columns: 0..<model.width)
            let deepHead = model.head.view(rows: all, columns: model.width..<model.head.columns)
            linear(crossed, weight: crossHead, bias: model.headBias.view, into: logits)
            gemm(last, deepHead, transposingB: true, beta: 1, into: logits)
        } else {
            linear(last, weight: model.head, bias: model.headBias, into: logits)
        }
        check(logits.reading)
    }

    /// Finds the rows that hold a NaN or an infinity; the usual answer, none, costs one pass.
    private func check(_ values: MatrixView) {
        guard !values.isFinite else { return }
        for row in 0..<values.rows {
            let isFinite = values.withRow(row) { span in
                for i in 0..<span.count where !span[i].isFinite { return false }
                return true
            }
            if !isFinite { sound[row] = false }
        }
    }

    private func crossPart(_ x0: MatrixView, _ rows: Range<Int>) -> MatrixView {
        guard !model.cross.isEmpty else { return x0 }
        let x = x.view(rows: rows)
        let product = product.view(rows: rows)
        for row in rows { x.copyRow(row, from: x0, row: row) }
        for layer in model.cross {
            switch layer {
            case .full(let weight, let bias):
                linear(x.reading, weight: weight, into: product)
                x.cross(x0: x0, product: product.reading, bias: bias)
            case .lowRank(let u, let v, let bias):
                let narrow = narrow.view(rows: rows)
                linear(x.reading, weight: v, into: narrow)
                linear(narrow.reading, weight: u, into: product)
                x.cross(x0: x0, product: product.reading, bias: bias)
            }
        }
        return x.reading
    }

    private func deepPart(_ input: MatrixView, _ rows: Range<Int>) -> MatrixView {
        var last = input
        for (layer, output) in zip(model.deep, hidden) {
            let output = output.view(rows: rows)
            linear(last, weight: layer.weight, bias: layer.bias, into: output)
            check(output.reading)
            model.activation.apply(to: output)
            last = output.reading
        }
        return last
    }
}
