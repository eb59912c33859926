public import Artifacts
public import Kernels

/// Exact search over all rows: the oracle for recall, and the index for small catalogues.
public struct FlatIndex: VectorIndex {
    /// Rows scored at a time: with 64 columns 256 kB, inside a core's own cache.
    static let blockRows = 1024

    /// The vectors searched.
    public let table: VectorTable
    /// The table's.
    public var metric: Metric { table.metric }
    /// Columns of a vector.
    public var dimension: Int { table.dimension }
    /// Vectors searched.
    public var count: Int { table.count }

    /// An index over all rows of `table`.
    public init(_ table: VectorTable) { self.table = table }

    /// The best `k` rows by exact scores; O(count · dimension).
    public func search(
        _ query: MatrixView, k: Int, settings: SearchSettings, into neighbors: NeighborBuffer
    ) throws(RetrievalError) {
        let measure = settings.bySimilarity ? table.similarity : metric
        let prepared = try neighbors.prepare(query, table: table, measure: measure)
        neighbors.clear()
        let k = min(k, count)
        guard k > 0 else { return }
        neighbors.reserve(k + Self.blockRows)
        var start = 0
        while start < count {
            let length = min(Self.blockRows, count - start)
            for i in 0..<length { neighbors.rows[i] = UInt32(truncatingIfNeeded: start + i) }
            table.score(
                prepared, measure: measure, rows: neighbors.rows, count: length, into: &neighbors.scores)
            neighbors.merge(length, keeping: k)
            start += length
        }
        neighbors.finish(keeping: k)
    }

    /// The best `k` rows of every query [m, dimension], by blocked matrix products: for measuring.
    ///
    /// Scores may differ from `search` in the last bits; `l2` goes through `search`.
    public func search(queries: MatrixView, k: Int) throws(RetrievalError) -> [[Neighbor]] {
        let neighbors = NeighborBuffer()
        if metric == .l2 || count == 0 {
            var answers: [[Neighbor]] = []
            for query in 0..<queries.rows {
                try search(queries.row(query), k: k, settings: SearchSettings(), into: neighbors)
                answers.append(neighbors.all)
            }
            return answers
        }
        guard queries.columns == dimension else {
            throw .dimensionMismatch(expected: dimension, found: queries.columns)
        }
        let prepared = MutableMatrix(rows: queries.rows, columns: dimension)
        for row in 0..<queries.rows {
            let query = try neighbors.prepare(queries.row(row), table: table, measure: metric)
            prepared.view.copyRow(row, from: query, row: 0)
        }
        let norms = metric == .cosine ? table.inverseNorms : nil
        let products = MutableMatrix(rows: queries.rows, columns: Self.blockRows)
        var best = [TopK](repeating: TopK(k), count: queries.rows)
        var start = 0
        while start < count {
            let length = min(Self.blockRows, count - start)
            let block = products.view(rows: 0..<queries.rows, columns: 0..<length)
            gemm(
                prepared.view.reading, table.vectors.view(rows: start..<start + length), transposingB: true,
                into: block)
            for query in 0..<queries.rows {
                block.reading.withRow(query) { scores in
                    for i in 0..<scores.count {
                        let score = scores[i] * (norms?[0, start + i] ?? 1)
                        if score.isFinite { best[query].insert(row: start + i, score: score) }
                    }
                }
            }
            start += length
        }
        return best.map { $0.sorted().map { Neighbor(row: $0.row, score: $0.score) } }
    }
}

extension NeighborBuffer {
    /// The query as `table` wants it, in this buffer's scratch.
    func prepare(_ query: MatrixView, table: VectorTable, measure: Metric) throws(RetrievalError)
        -> MatrixView
    {
        if scratchQuery?.columns != table.dimension {
            scratchQuery = MutableMatrix(rows: 1, columns: table.dimension)
        }
        guard let prepared = scratchQuery else {
            throw .dimensionMismatch(expected: table.dimension, found: query.columns)
        }
        try table.prepare(query, measure: measure, into: prepared)
        return prepared.view.reading
    }
}
