internal import CKernels

/// Pieces of rows: several short vectors side by side in one long row.

extension MutableMatrixView {
    /// Copies all of row `source` of `from` over the columns of row `row` that begin at `column`.
    public func copyRow(_ row: Int, atColumn column: Int, from: MatrixView, row source: Int) {
        precondition(
            column >= 0 && column + from.columns <= columns,
            "\(from.columns) columns at \(column) of \(columns)")
        unsafe (pointer(row: row) + column).update(from: from.pointer(row: source), count: from.columns)
    }

    /// Adds `factor` times row `source` of `from` to the columns of row `row` that begin at `column`.
    public func addRow(_ row: Int, atColumn column: Int, factor: Float = 1, from: MatrixView, row source: Int)
    {
        precondition(
            column >= 0 && column + from.columns <= columns,
            "\(from.columns) columns at \(column) of \(columns)")
        unsafe CKernels_axpy(factor, from.pointer(row: source), pointer(row: row) + column, from.columns)
    }

    /// Sets some columns of one row to `value`.
    public func fillRow(_ row: Int, columns range: Range<Int>, with value: Float) {
        precondition(range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
        unsafe (pointer(row: row) + range.lowerBound).update(repeating: value, count: range.count)
    }

    /// Multiplies some columns of one row by `factor`.
    public func scaleRow(_ row: Int, columns range: Range<Int>, by factor: Float) {
        precondition(range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
        unsafe CKernels_scale(factor, pointer(row: row) + range.lowerBound, range.count)
    }
}

/// y = x · Wᵀ + b for part of a weight matrix.
///
/// Shapes: `x` [m, in]; `weight` [out, in]; `bias` [1, out]; `y` [m, out].
public func linear(_ x: MatrixView, weight: MatrixView, bias: MatrixView?, into y: MutableMatrixView) {
    if let bias {
        for row in 0..<y.rows { y.copyRow(row, from: bias, row: 0) }
        gemm(x, weight, transposingB: true, beta: 1, into: y)
    } else {
        gemm(x, weight, transposingB: true, into: y)
    }
}
