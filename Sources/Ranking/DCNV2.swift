public import Artifacts
public import Kernels

/// DCN-V2's frozen weights (Wang et al. 2020; ModelFormat.md §3.5). Shared by all threads; `DCNV2Run` is a
/// thread's scratch.
public final class DCNV2: Sendable {
    /// x = x0 ∘ (M x + b) + x with M [W, W], or M = U V with U [W, r] and V [r, W].
    struct Cross: Sendable {
        let inner: InputProduct  // M, or V
        let outer: PackedMatrix?  // U
        let bias: Matrix  // [1, W]
    }
    /// activation(weight x + bias).
    struct Deep: Sendable {
        let weight: InputProduct  // [out, in]
        let bias: Matrix  // [1, out]
    }

    let cross: [Cross]
    let deep: [Deep]
    let activation: Activation
    let isParallel: Bool
    let crossRank: Int
    let head: PackedMatrix  // [T, deep out]
    let crossHead: PackedMatrix?  // [T, W] when parallel
    let headBias: Matrix  // [1, T]
    /// Input columns, W.
    public let width: Int
    /// Outputs, T.
    public let taskCount: Int

    /// Reads the tensors of `ranker.…` for inputs of `width` columns.
    /// - Parameter candidateColumns: the columns that differ between a request's candidates, ascending; nil
    ///   for all.
    /// - Throws: naming the first tensor that is absent or does not fit.
    public init(
        _ configuration: RankerConfiguration, width: Int, candidateColumns: [Range<Int>]? = nil,
        tensors: BundleTensors
    ) throws(BundleError) {
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
            let inner =
                rank > 0
                ? try tensors.matrix(name + "v.weight", rows: rank, columns: width)
                : try tensors.matrix(name + "weight", rows: width, columns: width)
            let outer = rank > 0 ? try tensors.matrix(name + "u.weight", rows: width, columns: rank) : nil
            // Only the first layer's x is x0, the later ones' differ between candidates in all columns.
            cross.append(
                Cross(
                    inner: InputProduct(inner, candidateColumns: l == 0 ? candidateColumns : nil),
                    outer: outer.map { PackedMatrix($0) }, bias: bias))
        }
        self.cross = cross
        var deep: [Deep] = []
        var input = width
        for (i, output) in configuration.deep.enumerated() {
            let weight = try tensors.matrix("ranker.deep.\(i).weight", rows: output, columns: input)
            let readsInput = i == 0 && (isParallel || cross.isEmpty)
            deep.append(
                Deep(
                    weight: InputProduct(weight, candidateColumns: readsInput ? candidateColumns : nil),
                    bias: try tensors.vector("ranker.deep.\(i).bias", count: output)))
            input = output
        }
        self.deep = deep
        let heads = try tensors.matrix(
            "ranker.head.weight", rows: taskCount, columns: isParallel ? width + input : input)
        let (crossColumns, deepColumns) = (0..<width, heads.columns - input..<heads.columns)
        crossHead = isParallel ? PackedMatrix(heads, columns: crossColumns) : nil
        head = PackedMatrix(heads, columns: deepColumns)
        headBias = try tensors.vector("ranker.head.bias", count: taskCount)
    }
}

/// A forward pass of `DCNV2` with scratch allocated once; for one thread.
public final class DCNV2Run {
    /// Rows through all layers at once: x0 and x stay in cache, and the matrix products, which take 12 rows
    /// at a time, are still efficient.
    public static let blockRowsDefault = 60

    /// Rows at most in one call of `logits`.
    public let blockRows: Int
    private let model: DCNV2
    private let x: [MutableMatrix]  // two of [blockRows, W]: a layer reads one and writes the other
    private let narrow: MutableMatrix  // [blockRows, r]
    private let hidden: [MutableMatrix]  // per deep layer [blockRows, out]
    // What a layer's product with x begins with: the bias and the request's share.
    private let crossBase: [MutableMatrix]  // per cross layer [1, W], or [1, r] without the bias
    private let deepBase: [MutableMatrix]  // per deep layer [1, out]
    private var sound: [Bool]

    /// Scratch for blocks of `blockRows` ≥ 1 rows; no result depends on the size.
    public init(_ model: DCNV2, blockRows: Int = blockRowsDefault) {
        precondition(blockRows >= 1, "blocks of \(blockRows) rows")
        self.model = model
        self.blockRows = blockRows
        x = (0..<2).map { _ in MutableMatrix(rows: blockRows, columns: model.width) }
        narrow = MutableMatrix(rows: blockRows, columns: model.crossRank)
        hidden = model.deep.map { MutableMatrix(rows: blockRows, columns: $0.weight.outputs) }
        crossBase = model.cross.map { MutableMatrix(rows: 1, columns: $0.inner.outputs) }
        deepBase = model.deep.map { MutableMatrix(rows: 1, columns: $0.weight.outputs) }
        sound = [Bool](repeating: true, count: blockRows)
    }

    /// Starts a request: what its columns of x0 contribute, the same for all its rows, is computed here.
    /// - Parameter x0: [≥ 1, W], of which only the request's columns of the first row are read.
    public func begin(_ x0: MatrixView) {
        precondition(x0.columns == model.width, "\(x0.columns) columns for \(model.width)")
        for (layer, base) in zip(model.cross, crossBase) {
            layer.inner.prepare(x0, bias: layer.outer == nil ? layer.bias : nil, into: base.view)
        }
        for (layer, base) in zip(model.deep, deepBase) {
            layer.weight.prepare(x0, bias: layer.bias, into: base.view)
        }
    }

    /// Whether no NaN or infinity arose in row `row` of the last call: an activation may hide one from the
    /// logits.
    public func isSound(_ row: Int) -> Bool { sound[row] }

    /// Logits [m, T] of input rows x0 [m, W] of the request that began last; m ≤ `blockRows`. No allocation.
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
        linear(last, weight: model.head, bias: model.headBias, into: logits)
        if let head = model.crossHead { linear(crossed, weight: head, accumulating: true, into: logits) }
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
        var last = x0
        for (index, layer) in model.cross.enumerated() {
            let next = x[index & 1].view(rows: rows)
            let base = crossBase[index].view.reading
            if let outer = layer.outer {
                let narrow = narrow.view(rows: rows)
                layer.inner.apply(last, base: base, into: narrow)
                linear(narrow.reading, weight: outer, into: next)
                next.cross(x0: x0, x: last, bias: layer.bias.view)
            } else {
                layer.inner.apply(last, base: nil, into: next)
                next.cross(x0: x0, x: last, bias: base)
            }
            last = next.reading
        }
        return last
    }

    private func deepPart(_ input: MatrixView, _ rows: Range<Int>) -> MatrixView {
        var last = input
        for (index, layer) in model.deep.enumerated() {
            let output = hidden[index].view(rows: rows)
            layer.weight.apply(last, base: deepBase[index].view.reading, into: output)
            check(output.reading)
            model.activation.apply(to: output)
            last = output.reading
        }
        return last
    }
}
