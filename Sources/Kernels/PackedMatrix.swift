internal import CKernels

/// Linear weights [out, in] laid out once for products with many inputs; frozen, shared by all threads.
///
/// Panels of 32 outputs, each [in, 32] and zero beyond the last output.
public final class PackedMatrix: Sendable {
    static let panelColumns = 32

    /// The weights as they came, [out, in].
    public let weight: Matrix
    let panels: Matrix  // [⌈out/32⌉ · in, 32]

    /// Packs `weight`; takes as much memory again.
    public init(_ weight: Matrix) {
        self.weight = weight
        let width = Self.panelColumns
        let inner = weight.columns
        let count = (weight.rows + width - 1) / width
        panels = Matrix(rows: count * inner, columns: width) { span in
            for output in 0..<weight.rows {
                let base = output / width * inner * width + output % width
                weight.view.withRow(output) { row in
                    for k in 0..<inner { span[base + k * width] = row[k] }
                }
            }
        }
    }
}

extension PackedMatrix {
    /// Packs the weights of some inputs only, [out, columns]; traps when out of range.
    public convenience init(_ weight: Matrix, columns: Range<Int>) {
        let part = weight.view(rows: 0..<weight.rows, columns: columns)
        self.init(
            columns.count == weight.columns
                ? weight : Matrix(rows: part.rows, columns: part.columns, values: part.copy()))
    }
}

/// y = x · Wᵀ + b, or y += x · Wᵀ + b when `accumulating`.
///
/// Shapes: `x` [m, in]; `weight` [out, in]; `bias` [1, out]; `y` [m, out]. Traps on a mismatch. No
/// allocation.
public func linear(
    _ x: MatrixView, weight: PackedMatrix, bias: Matrix? = nil, accumulating: Bool = false,
    into y: MutableMatrixView
) {
    linear(x, weight: weight, bias: bias?.view, accumulating: accumulating, into: y)
}

/// y = x · Wᵀ + b, or y += x · Wᵀ + b when `accumulating`, with a bias that need not be a bundle's.
///
/// Shapes: `x` [m, in]; `weight` [out, in]; `bias` [1, out]; `y` [m, out]. Traps on a mismatch. No
/// allocation.
public func linear(
    _ x: MatrixView, weight: PackedMatrix, bias: MatrixView?, accumulating: Bool = false,
    into y: MutableMatrixView
) {
    precondition(x.columns == weight.weight.columns, "\(x.columns) inputs for \(weight.weight.columns)")
    precondition(y.rows == x.rows && y.columns == weight.weight.rows, "result [\(y.rows), \(y.columns)]")
    precondition((bias?.columns ?? y.columns) == y.columns, "bias for \(y.columns) outputs")
    guard x.rows > 0, y.columns > 0 else { return }
    guard Kernel.level >= .avx512, x.columns > 0 else {
        for row in 0..<y.rows {
            if !accumulating { y.fillRow(row, columns: 0..<y.columns, with: 0) }
            if let bias { y.addRow(row, from: bias, row: 0) }
        }
        return gemm(x, weight.weight.view, transposingB: true, beta: 1, into: y)
    }
    let panel = PackedMatrix.panelColumns
    // SAFETY: shapes were checked above, and every panel holds `x.columns` rows of 32 floats.
    unsafe CKernels_product(
        x.pointer(row: 0), x.stride, x.rows, x.columns, weight.panels.view.pointer(row: 0), panel,
        x.columns * panel,
        y.columns, bias?.pointer(row: 0), accumulating ? 1 : 0, y.pointer(row: 0), y.stride)
}
