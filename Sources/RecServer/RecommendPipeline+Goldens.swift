import Artifacts
import Kernels
import Ranking
import RecCore
import Retrieval

extension RecommendPipeline {
    /// Every stage's output for a request with candidates, flattened row by row, as ModelFormat.md §4 names
    /// them.
    func stages(of request: RecommendRequest) throws(Problem) -> [String: [Float]] {
        let resolved = try ResolvedRequest(request, snapshot, now: 0, isReplay: true)
        ranker.begin(resolved.query)
        ranker.prefill(keepingRows: true)
        _ = try encodeUser(resolved, request)
        let candidates: [Candidate]
        // The tower's own score, as the ranker reads it, also where the request searches for a basket.
        do throws(RetrievalError) {
            candidates = try scored(resolved.candidates ?? [], by: towerVector)
        } catch {
            throw Problem(error)
        }
        var stages: [String: [Float]] = ["tower.score": candidates.map(\.retrievalScore)]
        stages["tower.user_vector"] = towerVector?.copy()
        stages["sequence.rows"] = ranker.historyRows?.copy()
        stages["sequence.last_row"] = ranker.lastRow?.copy()
        do throws(RankingError) {
            try ranker.take(candidates)
            ranker.scoreSequence()
            stages["sequence.dot"] = ranker.sequenceDots?.copy()
            stages["sequence.vector"] = ranker.sequenceVectors?.copy()
            stages["sequence.score"] = ranker.sequenceScores?.copy()
            guard hasRanker else { return stages }
            try ranker.rank(userVector: towerVector, keepingInputs: true)
            stages["ranker.features"] = ranker.inputRows?.copy()
            stages["ranker.logits"] = ranker.logits?.copy()
            stages["ranker.probabilities"] = candidates.indices.flatMap {
                ranker.probabilities(of: $0).map(Float.init)
            }
            stages["value"] = try ranker.values(weights: resolved.profile.weights).map {
                $0.map(Float.init) ?? .nan
            }
        } catch {
            throw Problem(error, request)
        }
        return stages
    }
}
