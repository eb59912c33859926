import Kernels
import Ranking
import RecCore
import Retrieval

/// The candidates of one request on their way to a page: scores, order, and what was left out.
struct Slate {
    var candidates: [Candidate] = []
    /// One score per candidate; nil drops it.
    private(set) var scores: [Double?] = []
    private(set) var scoreKind = ScoreKind.retrieval
    /// Indices of the candidates to return, in display order.
    private(set) var page: [Int] = []
    var degraded: [DegradationStep] = []
    /// Whether the candidates' retrieval scores were computed against a query.
    private(set) var hasRetrievalScores = false
    private var excludedCount = 0
    private var filteredCount = 0

    /// Positions that diversity fills, and candidates it chooses from: it compares all pairs.
    private static let diversityPositions = 500
    private static let diversityPool = 2000

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
        scoreKind = kind
    }

    /// Makes the page: best score first, ties in retrieval's order; then diversity.
    mutating func order(_ count: Int, diversity: Double, _ vectors: MatrixView) {
        let scored = scores.indices.compactMap { index in scores[index].map { (index: index, score: $0) } }
        let sorted = scored.sorted { $0.score != $1.score ? $0.score > $1.score : $0.index < $1.index }
        guard diversity > 0 else {
            page = sorted.prefix(count).map(\.index)
            return
        }
        // Beyond a page nobody sees the difference: the rest follows by score.
        let pool = sorted.prefix(Self.diversityPool)
        let order = Diversity.order(
            scores: pool.map(\.score), rows: pool.map { candidates[$0.index].row }, vectors: vectors,
            diversity: diversity, count: min(count, Self.diversityPositions))
        let chosen = Set(order)
        let rest = sorted.enumerated().filter { !chosen.contains($0.offset) }.map(\.element.index)
        page = Array((order.map { pool[$0].index } + rest).prefix(count))
    }

    /// Stage counts and filter reasons for `explain`.
    var trace: Recommendation.Trace {
        Recommendation.Trace(
            stages: [
                ("retrieved", candidates.count), ("scored", scores.count - droppedCount),
                ("returned", page.count),
            ],
            filtered: [("excluded", excludedCount), ("filter", filteredCount), ("not_finite", droppedCount)])
    }
}
