public import Kernels

/// Maximal marginal relevance (Carbonell & Goldstein 1998) over item vectors.
///
/// Greedy: the next of the slate is the candidate i that maximises
///
///     (1 − d) · (s_i − s_min)/(s_max − s_min)  −  d · max over chosen j of cos(v_i, v_j)
///
/// with d = diversity, 0…1, and s normalised within the list (all 1 when all are equal). Equal maxima go to
/// the earlier candidate, so the result is deterministic; the first choice is the best score. d = 0 leaves
/// the order unchanged.
public struct Diversity {
    private let diversity: Double
    private let relevance: [Double]
    private let rows: [Int]
    private let vectors: MatrixView
    private let norms: [Float]
    /// The largest cosine with a chosen one; −2, below any, while nothing is chosen.
    private var closest: [Double]
    /// In the order of the list.
    private var remaining: [Int]
    private var hasChosen = false

    /// A list of which nothing is chosen yet.
    ///
    /// - Parameters:
    ///   - scores: finite, best first.
    ///   - rows: the candidates' rows in `vectors`; a zero vector is similar to nothing (cosine 0).
    ///   - diversity: clamped to 0…1; NaN counts as 0.
    public init(scores: [Double], rows: [Int], vectors: MatrixView, diversity: Double) {
        precondition(scores.count == rows.count, "\(scores.count) scores of \(rows.count) rows")
        self.diversity = diversity > 0 ? min(diversity, 1) : 0
        self.rows = rows
        self.vectors = vectors
        let counts = self.diversity > 0
        relevance = counts ? Self.normalized(scores) : []
        norms = counts ? rows.map { dot(vectors, row: $0, vectors, row: $0).squareRoot() } : []
        closest = [Double](repeating: -2, count: counts ? scores.count : 0)
        remaining = Array(scores.indices)
    }

    /// The first `count` positions of the reordered list, as indices into `scores`; fewer where `admits`
    /// leaves fewer. O(count · candidates · dimension).
    ///
    /// - Parameter admits: asked about each candidate that is next; one it refuses is left out, as if it had
    ///   not been there.
    public static func order(
        scores: [Double], rows: [Int], vectors: MatrixView, diversity: Double, count: Int,
        admits: (Int) -> Bool = { _ in true }
    ) -> [Int] {
        var list = Diversity(scores: scores, rows: rows, vectors: vectors, diversity: diversity)
        return list.take(count, admits: admits)
    }

    /// Chooses the next `count`, as `order` does; what `admits` refuses may be chosen by a later call.
    public mutating func take(_ count: Int, admits: (Int) -> Bool = { _ in true }) -> [Int] {
        var order: [Int] = []
        var refused: [Int] = []
        order.reserveCapacity(min(max(0, count), remaining.count))
        while order.count < count, !remaining.isEmpty {
            let chosen = remaining.remove(at: best())
            guard admits(chosen) else {
                refused.append(chosen)
                continue
            }
            order.append(chosen)
            note(chosen, among: remaining)
            note(chosen, among: refused)
        }
        if !refused.isEmpty { remaining = (remaining + refused).sorted() }
        return order
    }

    /// Takes what was chosen before, elsewhere: indices into `scores`.
    public mutating func adopt(_ chosen: [Int]) {
        let gone = Set(chosen)
        remaining.removeAll { gone.contains($0) }
        for index in chosen { note(index, among: remaining) }
    }

    /// The place in `remaining` of the next choice.
    private func best() -> Int {
        guard diversity > 0 else { return 0 }
        var best = 0
        var bestValue = -Double.infinity
        for (position, i) in remaining.enumerated() {
            let value = hasChosen ? (1 - diversity) * relevance[i] - diversity * closest[i] : relevance[i]
            if value > bestValue { (best, bestValue) = (position, value) }
        }
        return best
    }

    private mutating func note(_ chosen: Int, among others: [Int]) {
        hasChosen = true
        guard diversity > 0 else { return }
        for i in others {
            let length = norms[i] * norms[chosen]
            let cosine = length > 0 ? dot(vectors, row: rows[i], vectors, row: rows[chosen]) / length : 0
            closest[i] = max(closest[i], Double(cosine))
        }
    }

    private static func normalized(_ scores: [Double]) -> [Double] {
        guard let low = scores.min(), let high = scores.max(), high > low else {
            return scores.map { _ in 1 }
        }
        return scores.map { ($0 - low) / (high - low) }
    }
}
