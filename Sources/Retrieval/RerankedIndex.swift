public import Artifacts
public import Kernels

/// A shortlist from an approximate index, scored again exactly on the full vectors.
public struct RerankedIndex: VectorIndex {
    /// Most codes a search looks at, whatever the request asks for.
    public static let shortlistMaximum = 16_384
    /// Most lists a search scans.
    public static let probesMaximum = 4_096

    private let shortlist: FaissIndex
    /// The full vectors.
    public let table: VectorTable
    /// The table's.
    public var metric: Metric { table.metric }
    /// Columns of a vector.
    public var dimension: Int { table.dimension }
    /// Vectors searched.
    public var count: Int { table.count }

    /// Throws `.invalidIndex` or `.dimensionMismatch` unless `shortlist` was made of `table`'s shape and
    /// metric.
    public init(shortlist: FaissIndex, table: VectorTable) throws(RetrievalError) {
        guard shortlist.dimension == table.dimension else {
            throw .dimensionMismatch(expected: table.dimension, found: shortlist.dimension)
        }
        guard shortlist.count == table.count, shortlist.metric == table.metric else {
            throw .invalidIndex(
                expected: "\(table.count) vectors by \(table.metric.rawValue)",
                found: "\(shortlist.count) by \(shortlist.metric.rawValue)")
        }
        self.shortlist = shortlist
        self.table = table
    }

    /// The best `k` of the shortlist's `k` · `shortlistFactor` codes, by exact scores.
    public func search(
        _ query: MatrixView, k: Int, settings: SearchSettings, into neighbors: NeighborBuffer
    ) throws(RetrievalError) {
        let measure = settings.bySimilarity ? table.similarity : metric
        let prepared = try neighbors.prepare(query, table: table, measure: measure)
        let factor = min(max(1, settings.shortlistFactor), Self.shortlistMaximum)
        neighbors.clear()
        let k = min(k, count)
        guard k > 0 else { return }
        let codes = min(max(k, min(k, Self.shortlistMaximum) * factor), max(k, Self.shortlistMaximum), count)
        let probes = min(max(1, settings.probes), Self.probesMaximum)
        let found = try shortlist.gather(prepared, k: codes, probes: probes, into: neighbors)
        table.score(prepared, measure: measure, rows: neighbors.rows, count: found, into: &neighbors.scores)
        neighbors.take(found)
        neighbors.finish(keeping: k)
    }
}

/// The index a bundle gets: exact below `exactMaximum` rows or when it says so, else FAISS with exact
/// re-ranking.
public enum IndexBuilder {
    /// Up to this many rows the exact scan is quicker than codes, and never wrong.
    public static let exactMaximum = 10_000

    /// Whether `make` would build or read codes.
    public static func needsCodes(rows: Int, configuration: IndexConfiguration) -> Bool {
        configuration.kind == .ivfpq && rows >= exactMaximum
    }

    /// The index over `table`.
    /// - Parameter verified: a serialised index whose digest was verified, read instead of built.
    public static func make(
        _ table: VectorTable, configuration: IndexConfiguration, verified: [UInt8]? = nil,
        progress: (FaissIndex.Progress) -> Void = { _ in }
    ) throws(RetrievalError) -> any VectorIndex {
        guard needsCodes(rows: table.count, configuration: configuration) else { return FlatIndex(table) }
        let codes: FaissIndex
        if let verified {
            codes = try FaissIndex(
                verified: verified, metric: table.metric, dimension: table.dimension, count: table.count)
        } else {
            codes = try FaissIndex(table, configuration: configuration, progress: progress)
        }
        return try RerankedIndex(shortlist: codes, table: table)
    }
}
