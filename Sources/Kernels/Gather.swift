internal import CKernels

/// Scores of scattered rows of a table, and runs of whole rows.

/// What `gatherScores` computes for a row.
public enum RowScore: Sendable {
    /// query · row
    case dotProduct
    /// −‖query − row‖²
    case negativeSquaredDistance
}

extension MatrixView {
    /// Rows ahead of which to call `prefetch` when one scattered row after the other is read.
    public static var prefetchDistance: Int { 8 }

    /// Requests a row from memory ahead of its use; traps when out of range.
    public func prefetch(row: Int) { unsafe CKernels_prefetch(pointer(row: row), columns) }
}

extension Matrix {
    /// scores[i] = the score of `query` [1, columns] and row `rows[i]`, for the first `rows.count` scores.
    ///
    /// Rows are fetched ahead of their use. Traps when a row is out of range or `scores` is shorter than
    /// `rows`.
    public func gatherScores(
        _ kind: RowScore, query: MatrixView, rows: Span<UInt32>, into scores: inout MutableSpan<Float>
    ) {
        precondition(
            query.rows >= 1 && query.columns == columns, "a query of \(query.columns) for \(columns) columns")
        precondition(scores.count >= rows.count, "\(rows.count) rows into \(scores.count) scores")
        var highest: UInt32 = 0
        for i in 0..<rows.count { highest = max(highest, rows[i]) }
        guard rows.count > 0 else { return }
        precondition(Int(highest) < self.rows, "row \(highest) of \(self.rows)")
        unsafe rows.withUnsafeBufferPointer { source in
            unsafe scores.withUnsafeMutableBufferPointer { target in
                // SAFETY: both buffers live for this closure, and rows, width and counts were checked above.
                guard let from = source.baseAddress, let to = target.baseAddress else { return }
                switch kind {
                case .dotProduct:
                    unsafe CKernels_gather_dot(
                        query.pointer(row: 0), storage.base, columns, columns, from, source.count, to)
                case .negativeSquaredDistance:
                    unsafe CKernels_gather_distance(
                        query.pointer(row: 0), storage.base, columns, columns, from, source.count, to)
                }
            }
        }
    }

    /// Calls `body` with the floats of consecutive rows, end to end; traps when out of range.
    public func withRows<Result, E: Error>(
        _ range: Range<Int>, _ body: (Span<Float>) throws(E) -> Result
    ) throws(E) -> Result {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(rows)")
        // SAFETY: `self` keeps the storage alive to the end and nothing writes to it.
        defer { withExtendedLifetime(self) {} }
        let start = unsafe UnsafePointer(storage.base + range.lowerBound * columns)
        return try body(unsafe UnsafeBufferPointer(start: start, count: range.count * columns).span)
    }
}
