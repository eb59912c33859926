import Artifacts
import Features
import Kernels
import Ranking
import RecCore
import Retrieval
import Threading

/// The recommendation from request to slate, on one compute thread with scratch of its own.
///
/// Every stage is skipped when the budget does not allow it, and named in the answer: full → without the
/// sequence scorer →
/// retrieval order → popular.
final class RecommendPipeline {
    let snapshot: Snapshot
    private let settings: PipelineSettings
    private let metrics: Metrics
    let retriever: Retriever
    let ranker: Ranker
    private let towerInput: MutableMatrix
    private let towerScratch: UserTower.Scratch?
    private let userVector: MutableMatrix  // [1, d], the tower's output
    private let queryVector: MutableMatrix  // [1, d], what is searched for
    private var prefillCost = StageCost()
    private var sequenceCost = StageCost()
    private var rankCost = StageCost()

    init(_ snapshot: Snapshot, _ settings: PipelineSettings, _ metrics: Metrics) {
        self.snapshot = snapshot
        self.settings = settings
        self.metrics = metrics
        retriever = Retriever(snapshot.retrieval)
        ranker = Ranker(snapshot.ranking, microbatch: settings.microbatch)
        let dimension = snapshot.manifest.retrieval.dimension
        towerInput = MutableMatrix(rows: 1, columns: snapshot.tower?.encoder.width ?? 0)
        towerScratch = snapshot.tower.map { UserTower.Scratch(for: $0.network) }
        userVector = MutableMatrix(rows: 1, columns: dimension)
        queryVector = MutableMatrix(rows: 1, columns: dimension)
    }

    /// Answers a request.
    func recommend(_ request: RecommendRequest, receivedAt: UInt64, clock: inout StageClock) throws(Problem)
        -> Recommendation
    {
        let resolved = try ResolvedRequest(request, snapshot, now: Double(WallClock.nanoseconds) / 1e9)
        let budget = Budget(
            receivedAt: receivedAt,
            milliseconds: request.deadlineMilliseconds ?? settings.deadlineMilliseconds,
            mayDegrade: request.mayDegrade)
        clock.end(.decode)
        var slate = try slate(resolved, request, budget, &clock)
        slate.order(resolved.count, diversity: request.diversity, snapshot.ranking.itemVectors.view)
        clock.end(.slate)
        _ = try budget.allows(0)
        return answer(slate, resolved, request)
    }

    /// Retrieval, sequence scores, ranking: candidates with one score each.
    private func slate(
        _ resolved: ResolvedRequest, _ request: RecommendRequest, _ budget: Budget, _ clock: inout StageClock
    ) throws(Problem) -> Slate {
        ranker.begin(resolved.query)
        guard !resolved.isAnonymous, try budget.allows(0) else {
            return try popular(resolved, degraded: !resolved.isAnonymous, &clock)
        }
        var slate = Slate()
        let hasHistory = try prefill(resolved, budget, &slate, &clock)
        let query = try encodeUser(resolved)
        try retrieve(resolved, query, hasHistory: hasHistory, &slate)
        clock.end(.retrieve)
        do throws(RankingError) { try ranker.take(slate.candidates) } catch { throw Problem(error, request) }
        try scoreSequence(hasHistory, budget, &slate, &clock)
        try rank(request, budget, &slate, &clock)
        return slate
    }

    // MARK: Stages

    /// The history's keys and values, once per request. False when there is nothing to score against.
    private func prefill(
        _ resolved: ResolvedRequest, _ budget: Budget, _ slate: inout Slate, _ clock: inout StageClock
    ) throws(Problem) -> Bool {
        guard let model = snapshot.ranking.sequence, !resolved.query.history.isEmpty else { return false }
        let events = min(resolved.query.history.count, model.configuration.maxEvents)
        guard try budget.allows(prefillCost.estimate(events)) else {
            degrade(.sequenceSkipped, &slate)
            return false
        }
        let start = MonotonicClock.nanoseconds
        let encoded = ranker.prefill()
        prefillCost.learn(nanoseconds: clock.end(.sequence) &- start, units: encoded)
        metrics.historyTokens.add(encoded)
        return encoded > 0
    }

    /// The query vector: the mean of the query items, else the tower's output; nil without either.
    private func encodeUser(_ resolved: ResolvedRequest) throws(Problem) -> MatrixView? {
        if let tower = snapshot.tower, let towerScratch {
            do { try tower.encoder.encodeQuery(resolved.query, into: towerInput.view) } catch {
                throw Problem(error, resolved.query)
            }
            tower.network.forward(towerInput.view.reading, scratch: towerScratch, into: userVector.view)
        }
        if !resolved.queryItems.isEmpty {
            snapshot.retrieval.table.mean(of: resolved.queryItems, into: queryVector.view)
            return queryVector.view.reading
        }
        return snapshot.tower == nil ? nil : userVector.view.reading
    }

    private func retrieve(
        _ resolved: ResolvedRequest, _ query: MatrixView?, hasHistory: Bool, _ slate: inout Slate
    ) throws(Problem) {
        do throws(RetrievalError) {
            if let candidates = resolved.candidates {
                let scores = try retriever.score(candidates.map(\.row), query: query)
                slate.candidates = zip(candidates, scores).compactMap { candidate, score in
                    guard score.isFinite else { return nil }
                    var candidate = candidate
                    candidate.retrievalScore = score
                    return candidate
                }
                slate.isShort = slate.candidates.count < resolved.count
            } else {
                var request = retrievalRequest(resolved)
                request.towerQuery = query
                request.sequenceQuery = hasHistory ? ranker.lastRow : nil
                slate.take(try retriever.retrieve(request))
            }
        } catch {
            throw Problem(error)
        }
        metrics.candidatesRetrieved.record(Double(slate.candidates.count))
        slate.useRetrievalScores()
    }

    private func retrievalRequest(_ resolved: ResolvedRequest) -> RetrievalRequest {
        var request = RetrievalRequest(snapshot.manifest.retrieval, minimum: resolved.count)
        request.candidates = min(request.candidates, settings.candidatesMax)
        request.settings.probes = min(request.settings.probes, settings.probesMax)
        request.settings.shortlistFactor = min(request.settings.shortlistFactor, settings.shortlistFactorMax)
        request.excluded = resolved.excluded
        request.filter = resolved.filter
        request.recent = resolved.query.history.suffix(16).map(\.row)
        return request
    }

    private func scoreSequence(
        _ hasHistory: Bool, _ budget: Budget, _ slate: inout Slate, _ clock: inout StageClock
    ) throws(Problem) {
        guard hasHistory else { return }
        let count = slate.candidates.count
        guard try budget.allows(sequenceCost.estimate(count)) else {
            return degrade(.sequenceSkipped, &slate)
        }
        let start = MonotonicClock.nanoseconds
        ranker.scoreSequence()
        sequenceCost.learn(nanoseconds: clock.end(.sequence) &- start, units: count)
        if snapshot.ranking.network == nil { slate.use(ranker.sequenceValues(), as: .sequence) }
    }

    private func rank(
        _ request: RecommendRequest, _ budget: Budget, _ slate: inout Slate, _ clock: inout StageClock
    ) throws(Problem) {
        guard snapshot.ranking.network != nil else {
            if let task = request.weights.keys.sorted().first {
                throw Problem(RankingError.unknownTask(task), request)
            }
            return
        }
        let count = slate.candidates.count
        guard try budget.allows(rankCost.estimate(count)) else {
            degrade(.rankerSkipped, &slate)
            slate.use(ranker.sequenceValues(), as: .sequence)
            return
        }
        let start = MonotonicClock.nanoseconds
        do throws(RankingError) {
            try ranker.rank(userVector: snapshot.tower == nil ? nil : userVector.view.reading)
            slate.use(try ranker.values(weights: request.weights), as: .value)
        } catch {
            throw Problem(error, request)
        }
        rankCost.learn(nanoseconds: clock.end(.rank) &- start, units: count)
        metrics.candidatesRanked.record(Double(count))
    }

    /// The most popular items, for callers of whom nothing is known and when there is time for nothing else.
    private func popular(_ resolved: ResolvedRequest, degraded: Bool, _ clock: inout StageClock)
        throws(Problem) -> Slate
    {
        var slate = Slate()
        if degraded { degrade(.popular, &slate) }
        if let candidates = resolved.candidates {
            slate.candidates = candidates
        } else {
            var request = retrievalRequest(resolved)
            request.quotas = .init(popular: resolved.count)
            request.candidates = resolved.count
            do throws(RetrievalError) { slate.take(try retriever.retrieve(request)) } catch {
                throw Problem(error)
            }
        }
        let popularity = snapshot.catalog.popularity
        slate.use(slate.candidates.map { Double(popularity[0, $0.row]) }, as: .popularity)
        clock.end(.retrieve)
        return slate
    }

    private func degrade(_ step: DegradationStep, _ slate: inout Slate) {
        guard !slate.degraded.contains(step) else { return }
        slate.degraded.append(step)
        metrics.degraded(step).add()
    }

    // MARK: Answer

    private func answer(_ slate: Slate, _ resolved: ResolvedRequest, _ request: RecommendRequest)
        -> Recommendation
    {
        let items = slate.page.map { index in
            let candidate = slate.candidates[index]
            return Recommendation.Item(
                itemID: snapshot.catalog.id(candidate.row), score: slate.scores[index] ?? 0,
                attributes: attributes(candidate.row, resolved.fields),
                explanation: request.explain ? explanation(slate, index) : nil)
        }
        metrics.itemsReturned.record(Double(items.count))
        metrics.scoresDropped.add(slate.droppedCount)
        if slate.isShort { metrics.shortAnswers.add() }
        return Recommendation(
            modelVersion: snapshot.manifest.modelVersion, scoreKind: slate.scoreKind, items: items,
            isShort: slate.isShort,
            degraded: slate.degraded,
            history: .init(events: resolved.query.history.count, unknown: resolved.unknownEvents),
            unknownCandidates: resolved.unknownCandidates, trace: request.explain ? slate.trace : nil)
    }

    /// The attributes of `row` that are asked for and there.
    func attributes(_ row: Int, _ fields: [String]) -> [(name: String, value: FeatureValue)] {
        fields.compactMap { field in snapshot.catalog.attribute(row, field).map { (field, $0) } }
    }

    private func explanation(_ slate: Slate, _ index: Int) -> Recommendation.Explanation {
        let candidate = slate.candidates[index]
        let tasks = snapshot.ranking.network?.tasks ?? []
        return Recommendation.Explanation(
            sources: candidate.sources.names, retrievalScore: candidate.retrievalScore,
            sequenceScore: ranker.sequenceScores?[index, 0],
            sequenceDot: ranker.sequenceDots?[index, 0],
            probabilities: zip(tasks, ranker.probabilities(of: index)).map { ($0.name, $1) },
            value: slate.scoreKind == .value ? slate.scores[index] : nil)
    }

    // MARK: Goldens

    /// Every stage's output for a request with candidates, flattened row by row, as ModelFormat.md §4 names
    /// them.
    func stages(of request: RecommendRequest) throws(Problem) -> [String: [Float]] {
        let resolved = try ResolvedRequest(request, snapshot, now: 0)
        ranker.begin(resolved.query)
        ranker.prefill()
        var slate = Slate()
        let query = try encodeUser(resolved)
        try retrieve(resolved, query, hasHistory: false, &slate)
        var stages: [String: [Float]] = ["tower.score": slate.candidates.map(\.retrievalScore)]
        if snapshot.tower != nil { stages["tower.user_vector"] = userVector.copyRow(0) }
        stages["sequence.rows"] = ranker.historyRows?.copy()
        stages["sequence.last_row"] = ranker.lastRow?.copy()
        do throws(RankingError) {
            try ranker.take(slate.candidates)
            ranker.scoreSequence()
            stages["sequence.dot"] = ranker.sequenceDots?.copy()
            stages["sequence.vector"] = ranker.sequenceVectors?.copy()
            stages["sequence.score"] = ranker.sequenceScores?.copy()
            guard snapshot.ranking.network != nil else { return stages }
            try ranker.rank(
                userVector: snapshot.tower == nil ? nil : userVector.view.reading, keepingInputs: true)
            stages["ranker.features"] = ranker.inputRows?.copy()
            stages["ranker.logits"] = ranker.logits?.copy()
            stages["ranker.probabilities"] = slate.candidates.indices.flatMap {
                ranker.probabilities(of: $0).map(Float.init)
            }
            stages["value"] = try ranker.values(weights: request.weights).map { $0.map(Float.init) ?? .nan }
        } catch {
            throw Problem(error, request)
        }
        return stages
    }
}
