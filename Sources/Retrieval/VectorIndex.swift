public import Artifacts
public import Kernels

/// How one search is done.
public struct SearchSettings: Sendable {
    /// Lists an inverted file scans; others ignore it.
    public var probes: Int
    /// Codes scored again exactly per neighbour asked for, for indexes that keep codes.
    public var shortlistFactor: Int
    /// Whether to rank by the table's `similarity` instead of its metric: for neighbours of an item.
    public var bySimilarity: Bool

    /// Settings for one search; indexes cut what is outside their limits.
    public init(probes: Int = 1, shortlistFactor: Int = 1, bySimilarity: Bool = false) {
        self.probes = probes
        self.shortlistFactor = shortlistFactor
        self.bySimilarity = bySimilarity
    }
}

/// Nearest neighbours of a vector among the rows of a table.
///
/// Frozen once made; searches from many threads give what they give from one.
public protocol VectorIndex: Sendable {
    /// What closeness means.
    var metric: Metric { get }
    /// Columns of a vector.
    var dimension: Int { get }
    /// Rows.
    var count: Int { get }

    /// Writes the best `k` ≥ 0 rows for `query` [1, dimension] to `neighbors`: best first, ties by row,
    /// finite scores only.
    ///
    /// Throws `.dimensionMismatch`, `.notFinite`, or `.faiss`. Fewer than `k` when there are no more.
    func search(
        _ query: MatrixView, k: Int, settings: SearchSettings, into neighbors: NeighborBuffer
    ) throws(RetrievalError)
}

/// Recall@k of `index` against its exact twin: the mean share of the twin's best `k` rows that `index` finds.
///
/// `queries` is [m, dimension]. 1 when there are no queries.
public func measureRecall(
    index: any VectorIndex, exact: any VectorIndex, queries: MatrixView, k: Int, settings: SearchSettings
) throws(RetrievalError) -> Double {
    let buffer = NeighborBuffer()
    var truth: [[Neighbor]] = []
    for query in 0..<queries.rows {
        try exact.search(queries.row(query), k: k, settings: settings, into: buffer)
        truth.append(buffer.all)
    }
    return try measureRecall(index: index, truth: truth, queries: queries, k: k, settings: settings)
}

/// Recall@k against answers known before: `truth[i]` belongs to row i of `queries`.
public func measureRecall(
    index: any VectorIndex, truth: [[Neighbor]], queries: MatrixView, k: Int, settings: SearchSettings
) throws(RetrievalError) -> Double {
    precondition(truth.count == queries.rows, "\(truth.count) answers for \(queries.rows) queries")
    let found = NeighborBuffer()
    var sum = 0.0
    for query in 0..<queries.rows {
        try index.search(queries.row(query), k: k, settings: settings, into: found)
        let wanted = Set(truth[query].prefix(k).map(\.row))
        sum += wanted.isEmpty ? 1 : Double(found.all.count { wanted.contains($0.row) }) / Double(wanted.count)
    }
    return queries.rows == 0 ? 1 : sum / Double(queries.rows)
}
