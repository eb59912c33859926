internal import Artifacts
public import Kernels
internal import RecCore

/// Millions → hundreds: the candidates of one request after another, from several sources.
///
/// Call `retrieve`, or `begin`, the stages wanted and `finish`, so that a deadline can be looked at between
/// them. Scratch grows to the largest request and is reused. For one thread.
public final class Retriever {
    /// Last distinct events whose items' neighbours are candidates: each costs a search.
    public static let recentMaximum = 3
    /// Rows a source fetches at most, whatever quota, filter and exclusions ask for.
    public static let fetchMaximum = 4_096
    /// Rows fetched per row wanted when a filter may refuse some.
    public static let filterFetchFactor = 4
    /// Rows fetched beyond the quota for rows that are excluded.
    public static let exclusionFetchMaximum = 1_024
    /// Rows of the popular list that a source looks at before it gives up.
    public static let popularWalkMaximum = 20_000

    /// What is searched.
    public let model: RetrievalModel
    var request: RetrievalRequest
    var pool = CandidatePool()
    let neighbors = NeighborBuffer(capacity: 4_096)
    private let seeds = (0..<Retriever.recentMaximum).map { _ in NeighborBuffer() }
    private var scoreRows: [UInt32] = []
    private var scores: [Float] = []
    private var isScanned = false

    /// A retriever over `model`.
    public init(_ model: RetrievalModel) {
        self.model = model
        request = RetrievalRequest(model.configuration, minimum: 0)
    }

    /// All stages in order.
    public func retrieve(_ request: RetrievalRequest) throws(RetrievalError) -> RetrievalResult {
        begin(request)
        try searchTower()
        try searchSequence()
        try searchItemToItem()
        takePopular()
        try fill()
        return try finish()
    }

    /// Forgets the last request.
    public func begin(_ request: RetrievalRequest) {
        self.request = request
        isScanned = false
        pool.begin(excluded: request.excluded, filter: request.filter)
    }

    /// The tower's neighbours; nothing without a query or a quota.
    public func searchTower() throws(RetrievalError) {
        guard let query = request.towerQuery else { return }
        try search(model.items, query, quota: request.quotas.tower, source: .tower)
    }

    /// The sequence model's neighbours; nothing without a query, an index or a quota.
    public func searchSequence() throws(RetrievalError) {
        guard let query = request.sequenceQuery, let index = model.sequence else { return }
        try search(index, query, quota: request.quotas.sequence, source: .sequence)
    }

    /// Neighbours of the last events' items, taken in turn: the first of each, the second of each, and so on.
    public func searchItemToItem() throws(RetrievalError) {
        let quota = request.quotas.itemToItem
        let recent = lastDistinct(request.recent)
        guard quota > 0, !recent.isEmpty else { return }
        var settings = request.settings
        settings.bySimilarity = true
        let share = (min(quota, Self.fetchMaximum) + recent.count - 1) / recent.count
        for (seed, row) in recent.enumerated() {
            // The seeds find themselves and each other.
            try model.similarIndex.search(
                model.similarTable.vectors.view.row(row), k: fetchCount(share) + recent.count,
                settings: settings,
                into: seeds[seed])
        }
        var rank = 0
        for position in 0..<(seeds[0..<recent.count].map(\.count).max() ?? 0) {
            for seed in 0..<recent.count where position < seeds[seed].count && rank < quota {
                let row = seeds[seed][position].row
                if !recent.contains(row), admitted(pool.offer(UInt32(row), from: .itemToItem, rank: rank)) {
                    rank += 1
                }
            }
        }
    }

    /// The most popular items.
    public func takePopular() {
        let quota = request.quotas.popular
        guard quota > 0 else { return }
        var rank = 0
        var seen = 0
        request.popularity.walk(model.catalog) { row in
            seen += 1
            if admitted(pool.offer(row, from: .popular, rank: rank)) { rank += 1 }
            return rank < quota && seen < Self.popularWalkMaximum
        }
    }

    /// When fewer than `minimum` items remain: the best of all matching rows by the tower's query, or by
    /// popularity without one. Nothing is left out for speed here, so that an answer is short only when the
    /// catalogue is.
    public func fill() throws(RetrievalError) {
        guard pool.count < request.minimum else { return }
        isScanned = true
        guard let query = request.towerQuery else {
            var rank = 0
            request.popularity.walk(model.catalog) { row in
                if admitted(pool.offer(row, from: .popular, rank: rank)) { rank += 1 }
                return pool.count < request.minimum
            }
            return
        }
        try scan(model.table, query, measure: model.table.metric, k: request.minimum)
        for i in 0..<neighbors.count {
            _ = pool.offer(UInt32(neighbors[i].row), from: .scan, rank: i)
        }
    }

    /// Scores every candidate exactly against the tower's query (0 without one), orders and cuts the list.
    public func finish() throws(RetrievalError) -> RetrievalResult {
        try scorePool()
        let limit = max(0, request.candidates, request.minimum)
        var candidates: [Candidate] = []
        candidates.reserveCapacity(min(pool.count, limit))
        for slot in pool.ordered(by: scores).prefix(limit) {
            candidates.append(
                Candidate(
                    row: Int(pool.rows[slot]), sources: pool.sources[slot], retrievalScore: scores[slot]))
        }
        return RetrievalResult(
            candidates: candidates, isShort: candidates.count < request.minimum,
            excludedCount: pool.excludedCount,
            filteredCount: pool.filteredCount, isScanned: isScanned)
    }

    /// Exact scores of given rows against `query` [1, dimension] by the bundle's metric; 0 without a query.
    ///
    /// For the request's own candidates. A score that is not finite is given as such: drop the row. Traps
    /// when out of range.
    public func score(_ rows: [Int], query: MatrixView?) throws(RetrievalError) -> [Float] {
        guard let query else { return [Float](repeating: 0, count: rows.count) }
        let prepared = try neighbors.prepare(query, table: model.table, measure: model.table.metric)
        scoreRows.removeAll(keepingCapacity: true)
        for row in rows { scoreRows.append(UInt32(row)) }
        var scores = [Float](repeating: 0, count: rows.count)
        model.table.score(
            prepared, measure: model.table.metric, rows: scoreRows, count: rows.count, into: &scores)
        return scores
    }

    // MARK: - Parts

    private func search(
        _ index: any VectorIndex, _ query: MatrixView, quota: Int, source: CandidateSources
    ) throws(RetrievalError) {
        guard quota > 0 else { return }
        try index.search(query, k: fetchCount(quota), settings: request.settings, into: neighbors)
        var rank = 0
        for i in 0..<neighbors.count where rank < quota {
            if admitted(pool.offer(UInt32(neighbors[i].row), from: source, rank: rank)) { rank += 1 }
        }
    }

    /// Rows to fetch so that about `quota` remain after exclusions and the filter.
    func fetchCount(_ quota: Int) -> Int {
        let wanted = min(quota, Self.fetchMaximum) * (request.filter == nil ? 1 : Self.filterFetchFactor)
        return min(wanted + min(request.excluded.count, Self.exclusionFetchMaximum), Self.fetchMaximum)
    }

    private func admitted(_ verdict: CandidatePool.Verdict) -> Bool { verdict == .added || verdict == .known }

    private func lastDistinct(_ rows: [Int]) -> [Int] {
        var last: [Int] = []
        for row in rows.reversed() where !last.contains(row) {
            last.append(row)
            if last.count == Self.recentMaximum { break }
        }
        return last
    }

    private func scorePool() throws(RetrievalError) {
        if scores.count < pool.count { scores = [Float](repeating: 0, count: pool.count * 2) }
        guard let query = request.towerQuery else {
            for i in 0..<pool.count { scores[i] = 0 }
            return
        }
        let prepared = try neighbors.prepare(query, table: model.table, measure: model.table.metric)
        model.table.score(
            prepared, measure: model.table.metric, rows: pool.rows, count: pool.count, into: &scores)
    }
}
