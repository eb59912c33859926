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
public enum Diversity {
    /// The first `count` positions of the reordered list, as indices into `scores`; fewer where `admits`
    /// leaves fewer.
    ///
    /// - Parameters:
    ///   - scores: finite, best first.
    ///   - rows: the candidates' rows in `vectors`; a zero vector is similar to nothing (cosine 0).
    ///   - diversity: clamped to 0…1; NaN counts as 0.
    ///   - admits: asked about each candidate that is next; one it refuses is left out, as if it had not been
    ///     there.
    /// O(count · candidates · dimension).
    public static func order(
        scores: [Double], rows: [Int], vectors: MatrixView, diversity: Double, count: Int,
        admits: (Int) -> Bool = { _ in true }
    ) -> [Int] {
        precondition(scores.count == rows.count, "\(scores.count) scores of \(rows.count) rows")
        let wanted = min(max(0, count), scores.count)
        guard diversity > 0, wanted > 0 else {
            var order: [Int] = []
            for i in scores.indices where order.count < wanted && admits(i) { order.append(i) }
            return order
        }
        let d = min(diversity, 1)
        let relevance = normalized(scores)
        let norms = rows.map { dot(vectors, row: $0, vectors, row: $0).squareRoot() }
        // −2 is below any cosine: no choice made yet.
        var closest = [Double](repeating: -2, count: scores.count)
        var remaining = Array(scores.indices)
        var order: [Int] = []
        order.reserveCapacity(wanted)
        while order.count < wanted, !remaining.isEmpty {
            var best = 0
            var bestValue = -Double.infinity
            for (position, i) in remaining.enumerated() {
                let value = order.isEmpty ? relevance[i] : (1 - d) * relevance[i] - d * closest[i]
                if value > bestValue { (best, bestValue) = (position, value) }
            }
            let chosen = remaining.remove(at: best)
            guard admits(chosen) else { continue }
            order.append(chosen)
            for i in remaining {
                let length = norms[i] * norms[chosen]
                let cosine = length > 0 ? dot(vectors, row: rows[i], vectors, row: rows[chosen]) / length : 0
                closest[i] = max(closest[i], Double(cosine))
            }
        }
        return order
    }

    private static func normalized(_ scores: [Double]) -> [Double] {
        guard let low = scores.min(), let high = scores.max(), high > low else {
            return scores.map { _ in 1 }
        }
        return scores.map { ($0 - low) / (high - low) }
    }
}
