extension MatrixView {
    /// One row as a view of its own; traps when out of range.
    public func row(_ row: Int) -> MatrixView {
        precondition(row >= 0 && row < rows, "row \(row) of \(rows)")
        return MatrixView(self, row: row)
    }

    private init(_ view: MatrixView, row: Int) {
        storage = view.storage
        // SAFETY: the row is inside `view`, whose storage this view also keeps alive.
        unsafe base = view.base + row * view.stride
        rows = 1
        columns = view.columns
        stride = view.stride
    }
}
