internal import CKernels

/// Pieces of rows: several short vectors side by side in one long row, and products row against row.

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

    /// Sets column `column` to the dot products of the rows of `a` with the same rows of `b`, times `scale`.
    public func rowDots(_ a: MatrixView, _ b: MatrixView, scale: Float = 1, intoColumn column: Int) {
        precondition(a.rows == rows && b.rows == rows && a.columns == b.columns, "shapes differ")
        precondition(column >= 0 && column < columns, "column \(column) of \(columns)")
        for row in 0..<rows {
            unsafe pointer(row: row)[column] =
                scale * CKernels_dot(a.pointer(row: row), b.pointer(row: row), a.columns)
        }
    }

    /// Adds every row of `from`, times the same row's element in column `column` of `factors`, to the same
    /// row.
    public func addRows(_ from: MatrixView, factors: MatrixView, column: Int) {
        precondition(from.rows == rows && factors.rows == rows && from.columns == columns, "shapes differ")
        precondition(column >= 0 && column < factors.columns, "column \(column) of \(factors.columns)")
        for row in 0..<rows {
            let factor = unsafe factors.pointer(row: row)[column]
            unsafe CKernels_axpy(factor, from.pointer(row: row), pointer(row: row), columns)
        }
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
