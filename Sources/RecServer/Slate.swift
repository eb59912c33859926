import Kernels
import Ranking
import RecCore
import Retrieval

/// The candidates of one request on their way to a page: scores, order, and what was left out.
struct Slate {
    var candidates: [Candidate] = []
    /// One score per candidate; nil drops it.
    private(set) var scores: [Double?] = []
    /// The same before boosts.
    private(set) var unboosted: [Double?] = []
    private(set) var scoreKind = ScoreKind.retrieval
    /// Indices of the candidates to return, in display order.
    private(set) var page: [Int] = []
    /// Candidates with a score that are not pinned to the page, best first; and which of them are on it.
    private var sorted: [(index: Int, score: Double)] = []
    private var ranked: [Int] = []
    /// How many of the sorted come before those that the user has ignored.
    private var wantedCount = 0
    var degraded: [DegradationStep] = []
    /// Whether the candidates' retrieval scores were computed against a query.
    private(set) var hasRetrievalScores = false
    private var excludedCount = 0
    private var filteredCount = 0
    /// Candidates that were left out of the page because the user has ignored them.
    private(set) var ignoredCount = 0

    /// Positions that diversity fills, and candidates it chooses from: it compares all pairs.
    private static let diversityPositions = 500
    static let diversityPool = 2000

    /// Candidates that could be on the page.
    var availableCount: Int { scores.count - droppedCount }
    /// Candidates whose score is not finite.
    var droppedCount: Int { scores.count { $0 == nil } }

    /// Takes over what retrieval found.
    mutating func take(_ result: RetrievalResult) {
        candidates = result.candidates
        excludedCount = result.excludedCount
        filteredCount = result.filteredCount
    }

    /// Notes what the request's own candidates lost.
    mutating func count(excluded: Int, filtered: Int) {
        (excludedCount, filteredCount) = (excluded, filtered)
    }

    /// Scores the candidates by retrieval, in its order; a score that is not finite drops its candidate.
    mutating func useRetrievalScores(areComputed: Bool) {
        hasRetrievalScores = areComputed
        use(candidates.map { $0.retrievalScore.isFinite ? Double($0.retrievalScore) : nil }, as: .retrieval)
    }

    /// Scores the candidates; an empty list changes nothing, so that a skipped stage leaves the one before.
    mutating func use(_ scores: [Double?], as kind: ScoreKind) {
        guard !scores.isEmpty else { return }
        self.scores = scores
        unboosted = scores
        scoreKind = kind
    }

    /// Adds what a placement pins, or notes it as one more source.
    mutating func add(pinned: [Candidate]) {
        var indices: [Int: Int] = [:]
        for (index, candidate) in candidates.enumerated() { indices[candidate.row] = index }
        for candidate in pinned {
            if let index = indices[candidate.row] {
                candidates[index].sources.formUnion(.pinned)
            } else {
                candidates.append(candidate)
            }
        }
    }

    /// Applies a placement's boosts to the scores.
    mutating func boost(by placement: Placement) {
        guard !placement.boosts.isEmpty else { return }
        for index in scores.indices {
            guard let score = unboosted[index] else { continue }
            let boosted = placement.boosted(score, row: candidates[index].row, kind: scoreKind)
            scores[index] = boosted.isFinite ? boosted : nil
        }
    }

    /// Makes the page: best score first, ties in retrieval's order; diversity and caps; pins at their places.
    ///
    /// Pinned items count for the caps and are shown in any case. Where caps refuse an item the next one
    /// takes its place; the page is shorter when no candidate is left.
    /// - Parameter ignored: rows that come after all others.
    mutating func order(
        _ count: Int, diversity: Double, _ vectors: MatrixView, pins: [Placement.Pin] = [],
        caps: CapCounter? = nil, ignored: Set<Int> = []
    ) {
        let pinned = pinnedIndices(pins, on: count)
        var caps = caps
        for pin in pinned { caps?.count(candidates[pin.index].row) }
        let taken = Set(pinned.map(\.index))
        let scored = scores.indices.compactMap { index in
            taken.contains(index) ? nil : scores[index].map { (index: index, score: $0) }
        }
        sorted = scored.sorted { $0.score != $1.score ? $0.score > $1.score : $0.index < $1.index }
        wantedCount = sorted.count
        if !ignored.isEmpty {
            let wanted = sorted.filter { !ignored.contains(candidates[$0.index].row) }
            wantedCount = wanted.count
            sorted = wanted + sorted.filter { ignored.contains(candidates[$0.index].row) }
        }
        ranked = ranked(sorted, count - pinned.count, diversity, vectors) { index in
            caps?.admit(candidates[index].row) ?? true
        }
        page = Self.merged(ranked, pinned)
        ignoredCount = sorted.count - wantedCount - ranked.count { ignored.contains(candidates[$0].row) }
    }

    /// Moves the page's items back towards the places they had before, so that none is more than `limit` away.
    /// - Parameter places: by row; different.
    mutating func keep(_ places: [Int: Int], within limit: Int) {
        guard !places.isEmpty else { return }
        let isRanked = Set(ranked)
        page = ShiftBound.order(
            previous: page.map { places[candidates[$0].row] }, isFixed: page.map { !isRanked.contains($0) },
            limit: limit
        ).map { page[$0] }
    }

    /// What follows a page of `count` made with these settings, on a slate of at most `maximum` items; nil
    /// when nothing does.
    func tail(maximum: Int, count: Int, diversity: Double, placement: Placement?) -> SlateTail? {
        let places = maximum - page.count
        guard places > 0, ranked.count < sorted.count else { return nil }
        let isCapped = !(placement?.caps.isEmpty ?? true)
        guard isCapped || diversity > 0 else {
            return SlateTail(
                sorted[ranked.count...].prefix(places).map { (candidates[$0.index].row, $0.score) })
        }
        var isShown = [Bool](repeating: false, count: candidates.count)
        for index in ranked { isShown[index] = true }
        let pool = sorted.prefix(Self.diversityPool)
        return SlateTail(
            pool.map { (candidates[$0.index].row, $0.score) },
            rules: .init(
                wanted: min(wantedCount, pool.count),
                shown: pool.indices.filter { isShown[pool[$0].index] }, places: places, segment: count,
                diversity: diversity, placement: placement))
    }

    /// The candidates that pins of a page of `count` stand for, in display order.
    private func pinnedIndices(_ pins: [Placement.Pin], on count: Int) -> [(position: Int, index: Int)] {
        guard !pins.isEmpty else { return [] }
        return pins.filter { $0.position < count }.compactMap { pin in
            scores.indices.first { scores[$0] != nil && candidates[$0].row == pin.row }
                .map { (pin.position, $0) }
        }
    }

    /// The first `count` of `sorted` that are admitted, re-ordered by diversity.
    private func ranked(
        _ sorted: [(index: Int, score: Double)], _ count: Int, _ diversity: Double, _ vectors: MatrixView,
        admits: (Int) -> Bool
    ) -> [Int] {
        guard diversity > 0 else {
            return Self.first(count, of: sorted.map(\.index), admits)
        }
        // Beyond a page nobody sees the difference: the rest follows by score.
        let pool = sorted.prefix(min(Self.diversityPool, wantedCount))
        let order = Diversity.order(
            scores: pool.map(\.score), rows: pool.map { candidates[$0.index].row }, vectors: vectors,
            diversity: diversity, count: min(count, Self.diversityPositions),
            admits: { admits(pool[$0].index) })
        let chosen = Set(order)
        let rest = sorted.enumerated().filter { !chosen.contains($0.offset) }.map(\.element.index)
        return order.map { pool[$0].index } + Self.first(count - order.count, of: rest, admits)
    }

    /// The first `count` that are admitted, each asked about once.
    private static func first(_ count: Int, of indices: [Int], _ admits: (Int) -> Bool) -> [Int] {
        var first: [Int] = []
        for index in indices {
            guard first.count < count else { break }
            if admits(index) { first.append(index) }
        }
        return first
    }

    /// Pins at their places and the ranked around them; without holes where the ranked run out.
    private static func merged(_ ranked: [Int], _ pinned: [(position: Int, index: Int)]) -> [Int] {
        var page: [Int] = []
        var ranked = ranked[...]
        for pin in pinned {
            while page.count < pin.position, let next = ranked.popFirst() { page.append(next) }
            page.append(pin.index)
        }
        return page + ranked
    }

    /// Stage counts and filter reasons for `explain`.
    var trace: Recommendation.Trace {
        Recommendation.Trace(
            stages: [
                ("retrieved", candidates.count), ("scored", scores.count - droppedCount),
                ("returned", page.count),
            ],
            filtered: [
                ("excluded", excludedCount), ("filter", filteredCount), ("not_finite", droppedCount),
            ] + (ignoredCount > 0 ? [("ignored", ignoredCount)] : []))
    }
}
