internal import Artifacts
internal import Kernels

extension Retriever {
    /// The `k` items most like the item of `row`, best first, without itself, `excluded` rows and what
    /// `filter` refuses.
    ///
    /// By cosine of `item.similar` where the bundle has it. Else by the metric between item vectors, except
    /// that an inner product space uses the cosine: there the longest vectors, which belong to popular items,
    /// are near to everything. Fewer than `k` only when the whole catalogue has fewer; the matching rows are
    /// then scanned. Forgets a request that was begun. Traps when `row` is out of range.
    public func similar(
        to row: Int, k: Int, filter: CompiledFilter? = nil, excluded: [Int] = [],
        settings: SearchSettings? = nil
    ) throws(RetrievalError) -> [Neighbor] {
        var request = RetrievalRequest(model.configuration, minimum: k)
        request.filter = filter
        request.excluded = excluded + [row]
        begin(request)
        let table = model.similarTable
        let query = table.vectors.view.row(row)
        var settings = settings ?? request.settings
        settings.bySimilarity = true
        try model.similarIndex.search(query, k: fetchCount(k), settings: settings, into: neighbors)
        var similar: [Neighbor] = []
        for i in 0..<neighbors.count where similar.count < k && pool.admits(UInt32(neighbors[i].row)) {
            similar.append(neighbors[i])
        }
        guard similar.count < k else { return similar }
        try scan(table, query, measure: table.similarity, k: k)
        return neighbors.all
    }

    /// How alike `rows` are to the item of `row`, by the measure of `similar`; a score that is not finite is
    /// given as such. Traps when out of range.
    public func similarities(of rows: [Int], to row: Int) throws(RetrievalError) -> [Float] {
        let table = model.similarTable
        let prepared = try neighbors.prepare(
            table.vectors.view.row(row), table: table, measure: table.similarity)
        var scores = [Float](repeating: 0, count: rows.count)
        table.score(
            prepared, measure: table.similarity, rows: rows.map { UInt32($0) }, count: rows.count,
            into: &scores)
        return scores
    }

    /// Leaves the best `k` of all rows of `table` that the pool admits in `neighbors`, exactly.
    func scan(_ table: VectorTable, _ query: MatrixView, measure: Metric, k: Int) throws(RetrievalError) {
        let prepared = try neighbors.prepare(query, table: table, measure: measure)
        let k = min(k, table.count)
        neighbors.clear()
        neighbors.reserve(k + FlatIndex.blockRows)
        var row: UInt32 = 0
        while row < UInt32(table.count) {
            var length = 0
            while row < UInt32(table.count), length < FlatIndex.blockRows {
                if pool.admits(row) {
                    neighbors.rows[length] = row
                    length += 1
                }
                row += 1
            }
            table.score(
                prepared, measure: measure, rows: neighbors.rows, count: length, into: &neighbors.scores)
            neighbors.merge(length, keeping: k)
        }
        neighbors.finish(keeping: k)
    }
}
