public import Artifacts
public import Kernels

/// How one search is done.
public struct SearchSettings: Sendable {
    /// Lists an inverted file scans; others ignore it.
    public var probes: Int
    /// Codes scored again exactly per neighbour asked for, for indexes that keep codes.
    public var shortlistFactor: Int
    /// Measure to rank by instead of the index's metric.
    public var measure: Metric?

    public init(probes: Int = 1, shortlistFactor: Int = 1, measure: Metric? = nil) {
        self.probes = probes
        self.shortlistFactor = shortlistFactor
        self.measure = measure
    }
}

/// Nearest neighbours of a vector among the rows of a table.
///
/// Frozen once made; searches from many threads give what they give from one.
public protocol VectorIndex: Sendable {
    var metric: Metric { get }
    var dimension: Int { get }
    var count: Int { get }

    /// Writes the best `k` ≥ 0 rows for `query` [1, dimension] to `neighbors`: best first, ties by row, finite scores only.
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
    let found = NeighborBuffer()
    let truth = NeighborBuffer()
    var sum = 0.0
    for query in 0..<queries.rows {
        let view = queries.row(query)
        try exact.search(view, k: k, settings: settings, into: truth)
        try index.search(view, k: k, settings: settings, into: found)
        let wanted = Set(truth.all.map(\.row))
        sum += wanted.isEmpty ? 1 : Double(found.all.count { wanted.contains($0.row) }) / Double(wanted.count)
    }
    return queries.rows == 0 ? 1 : sum / Double(queries.rows)
}
