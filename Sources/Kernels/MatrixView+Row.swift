extension MatrixView {
    /// One row as a view of its own; traps when out of range.
    public func row(_ row: Int) -> MatrixView { view(rows: row..<row + 1, columns: 0..<columns) }

    /// A rectangle; traps when out of range.
    public func view(rows range: Range<Int>, columns columnRange: Range<Int>) -> MatrixView {
        MatrixView(self, rows: range, columns: columnRange)
    }

    private init(_ view: MatrixView, rows range: Range<Int>, columns columnRange: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= view.rows, "rows \(range) of \(view.rows)")
        precondition(
            columnRange.lowerBound >= 0 && columnRange.upperBound <= view.columns,
            "columns \(columnRange) of \(view.columns)")
        storage = view.storage
        // SAFETY: the rectangle is inside `view`, whose storage this view also keeps alive.
        unsafe base = view.base + (range.lowerBound * view.stride + columnRange.lowerBound)
        rows = range.count
        columns = columnRange.count
        stride = view.stride
    }
}
