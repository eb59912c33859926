import Artifacts
import Features
import Kernels
import Ranking
import RecCore
import Retrieval
import Threading
import UserState

/// The recommendation from request to slate, on one compute thread with scratch of its own.
///
/// The stages that the budget does not allow are left out and named in the answer: full → without the
/// sequence scorer → retrieval order → popular.
final class RecommendPipeline {
    let snapshot: Snapshot
    let settings: PipelineSettings
    private(set) var metrics: Metrics
    let retriever: Retriever
    let ranker: Ranker
    private let towerInput: MutableMatrix
    private let towerScratch: UserTower.Scratch?
    private let userVector: MutableMatrix  // [1, d], the tower's output
    private let queryVector: MutableMatrix  // [1, d], the mean of the query items
    private var costs = StageCosts()
    private let counted: Lock<CountedPopularity>?
    /// What is popular for the request at hand.
    private var popularity = Popularity()

    /// - Parameters:
    ///   - cache: histories of the snapshot's sequence model.
    ///   - counted: the snapshot's popularity with events, which changes; nil for the bundle's own.
    init(
        _ snapshot: Snapshot, _ settings: PipelineSettings, _ metrics: Metrics, cache: HistoryCache? = nil,
        counted: Lock<CountedPopularity>? = nil
    ) {
        self.counted = counted
        self.snapshot = snapshot
        self.settings = settings
        self.metrics = metrics
        retriever = Retriever(snapshot.retrieval)
        ranker = Ranker(snapshot.ranking, cache: cache, microbatch: settings.microbatch)
        let dimension = snapshot.manifest.retrieval.dimension
        towerInput = MutableMatrix(rows: 1, columns: snapshot.tower?.encoder.width ?? 0)
        towerScratch = snapshot.tower.map { UserTower.Scratch(for: $0.network) }
        userVector = MutableMatrix(rows: 1, columns: dimension)
        queryVector = MutableMatrix(rows: 1, columns: dimension)
    }

    /// Runs `body`, which answers requests, without a trace in metrics, measured costs and cache.
    func rehearse<E: Error>(_ body: () throws(E) -> Void) throws(E) {
        let (counted, cache) = (metrics, ranker.cache)
        metrics = Metrics()
        ranker.cache = nil
        defer {
            metrics = counted
            ranker.cache = cache
            costs = StageCosts()
        }
        try body()
    }

    /// Answers a request.
    /// - Parameters:
    ///   - stored: what is kept of its user, nil when nothing is.
    ///   - viewer: what its user was shown lately, nil when that is not to count.
    ///   - relief: the fullest answer that others who wait leave time for, where a lesser one is allowed.
    func recommend(
        _ request: RecommendRequest, stored: StoredUser? = nil, viewer: Viewer? = nil, receivedAt: UInt64,
        relief: StagePlan = .full, clock: inout StageClock
    ) throws(Problem) -> Recommendation {
        let resolved = try ResolvedRequest(
            request, snapshot, stored: stored, now: Double(WallClock.nanoseconds) / 1e9)
        let budget = Budget(
            receivedAt: receivedAt,
            milliseconds: request.deadlineMilliseconds ?? settings.deadlineMilliseconds,
            mayDegrade: request.mayDegrade, relief: relief, waited: clock.duration(of: .queue))
        popularity = popularity(for: resolved)
        clock.end(.decode)
        // What is shared with other requests is held no longer than this one takes.
        defer { ranker.release() }
        var slate = try slate(resolved, request, budget, &clock)
        let start = MonotonicClock.nanoseconds
        order(&slate, resolved, viewer)
        let end = clock.end(.slate)
        if resolved.profile.diversity == 0 { costs.tail.learn(nanoseconds: end &- start, units: 1) }
        try budget.check()
        return answer(slate, resolved, request)
    }

    private func popularity(for resolved: ResolvedRequest) -> Popularity {
        guard let counted else { return Popularity() }
        let value = settings.popularityBy.flatMap {
            CountedPopularity.value(resolved.query.userFeatures[$0])
        }
        return counted.withLock { $0 }.popularity(of: value)
    }

    /// Retrieval, sequence scores, ranking: candidates with one score each.
    private func slate(
        _ resolved: ResolvedRequest, _ request: RecommendRequest, _ budget: Budget, _ clock: inout StageClock
    ) throws(Problem) -> Slate {
        try budget.check()
        ranker.begin(resolved.query)
        if resolved.isAnonymous { return try popular(resolved, &clock) }
        let events = lookUp(resolved, budget, &clock)
        var plan = try plan(resolved, events, budget)
        if plan > .full { ranker.release() }
        if plan == .popular {
            var slate = try popular(resolved, &clock)
            degrade(to: plan, &slate)
            return slate
        }
        let hasHistory = plan == .full && events.all > 0
        if hasHistory { prefill(events, &clock) }
        let query = try encodeUser(resolved, request)
        if query == nil, !hasHistory, resolved.query.history.isEmpty, resolved.candidates == nil {
            return try popular(resolved, &clock)
        }
        var slate = try retrieve(resolved, query, hasHistory: hasHistory, &clock)
        try budget.check()
        let count = slate.candidates.count
        if budget.mayDegrade {
            plan = costs.replan(
                plan, sequenced: hasHistory ? count : 0, ranked: hasRanker ? count : 0,
                remaining: budget.remaining())
        }
        let ranked = try rankedCandidates(slate, resolved)
        do throws(RankingError) { try ranker.take(ranked) } catch { throw Problem(error, request) }
        if plan == .full, hasHistory { scoreSequence(&slate, &clock) }
        try budget.check()
        if plan <= .withoutSequence, hasRanker { try rank(resolved, request, &slate, &clock) }
        degrade(to: plan, &slate)
        return slate
    }

    var hasRanker: Bool { snapshot.ranking.network != nil }

    /// Events of the model's window, and those of them that are to be encoded.
    private typealias EventCounts = (all: Int, toEncode: Int)

    /// Asks the cache for the history's keys and values.
    private func lookUp(
        _ resolved: ResolvedRequest, _ budget: Budget, _ clock: inout StageClock
    ) -> EventCounts {
        guard snapshot.ranking.sequence != nil, !resolved.query.history.isEmpty else { return (0, 0) }
        let counts = ranker.lookUp(until: budget.deadline)
        clock.end(.sequence)
        return (counts.events, counts.toCompute)
    }

    private func plan(
        _ resolved: ResolvedRequest, _ events: EventCounts, _ budget: Budget
    ) throws(Problem) -> StagePlan {
        let count =
            resolved.candidates?.count ?? min(snapshot.manifest.retrieval.candidates, settings.candidatesMax)
        let (sequenced, ranked) = (events.all > 0 ? count : 0, hasRanker ? count : 0)
        guard budget.mayDegrade else {
            try refuseHopeless(
                costs.estimate(events: events.toEncode, sequenced: sequenced, ranked: ranked), budget)
            return .full
        }
        let plan = costs.plan(
            events: events.toEncode, sequenced: sequenced, ranked: ranked, remaining: budget.remaining())
        guard plan < budget.relief else { return plan }
        metrics.admission.relieved.add()
        return budget.relief
    }

    /// Refuses what allows no lesser answer where waiting took the time for the full one: to compute what
    /// comes too late would only make the next ones late.
    private func refuseHopeless(_ estimate: UInt64, _ budget: Budget) throws(Problem) {
        guard budget.isSpentByWaiting(for: estimate) else { return }
        metrics.shed.add()
        metrics.admission.refused(.answers, .wait).add()
        throw Problem(.overloaded, "the time left is not enough for the full answer", retryAfter: 1)
    }

    /// Names in the answer what `plan` left out of what this request could have had.
    private func degrade(to plan: StagePlan, _ slate: inout Slate) {
        guard plan > .full else { return }
        costs.noteSkipped(by: plan)
        if plan == .popular {
            slate.degraded.append(.popular)
        } else {
            if snapshot.ranking.sequence != nil { slate.degraded.append(.sequenceSkipped) }
            if plan == .retrieval, hasRanker { slate.degraded.append(.rankerSkipped) }
        }
        for step in slate.degraded { metrics.degraded(step).add() }
    }

    // MARK: Stages

    /// The history's keys and values, once per request: what the cache has is not computed.
    private func prefill(_ events: EventCounts, _ clock: inout StageClock) {
        let start = MonotonicClock.nanoseconds
        let encoded = ranker.prefill()
        let end = clock.end(.sequence)
        // A few rows cost more each than many do: what a hit saves is measured by whole histories.
        if encoded * 2 > events.all { costs.prefill.learn(nanoseconds: end &- start, units: encoded) }
        metrics.historyTokens.add(encoded)
        ranker.cache?.counters.addSaved(
            nanoseconds: Int(clamping: costs.prefill.estimate(ranker.reusedEvents)))
    }

    /// The query vector: the mean of the query items, else the tower's output; nil without either.
    func encodeUser(
        _ resolved: ResolvedRequest, _ request: RecommendRequest
    ) throws(Problem) -> MatrixView? {
        if let tower = snapshot.tower, let towerScratch {
            do { try tower.encoder.encodeQuery(resolved.query, into: towerInput.view) } catch {
                throw Problem(error, request)
            }
            tower.network.forward(towerInput.view.reading, scratch: towerScratch, into: userVector.view)
        }
        if !resolved.queryItems.isEmpty {
            snapshot.retrieval.table.mean(of: resolved.queryItems, into: queryVector.view)
            return queryVector.view.reading
        }
        return towerVector
    }

    var towerVector: MatrixView? { snapshot.tower == nil ? nil : userVector.view.reading }

    private func retrieve(
        _ resolved: ResolvedRequest, _ query: MatrixView?, hasHistory: Bool, _ clock: inout StageClock
    ) throws(Problem) -> Slate {
        let start = MonotonicClock.nanoseconds
        var slate = Slate()
        do throws(RetrievalError) {
            if let candidates = resolved.candidates {
                slate.candidates = try scored(candidates, by: query)
                slate.count(excluded: resolved.excludedCandidates, filtered: resolved.filteredCandidates)
            } else {
                var request = retrievalRequest(resolved)
                request.towerQuery = query
                request.sequenceQuery = hasHistory ? ranker.lastRow : nil
                let result = try retriever.retrieve(request)
                if result.isScanned { metrics.exactScans.add() }
                slate.take(result)
                slate.add(pinned: try scored(resolved.pinned, by: query))
            }
        } catch {
            throw Problem(error)
        }
        slate.useRetrievalScores(areComputed: query != nil)
        metrics.candidatesRetrieved.record(Double(slate.candidates.count))
        let end = clock.end(.retrieve)
        if resolved.candidates == nil { costs.retrieve.learn(nanoseconds: end &- start, units: 1) }
        return slate
    }

    func scored(_ candidates: [Candidate], by query: MatrixView?) throws(RetrievalError)
        -> [Candidate]
    {
        let scores = try retriever.score(candidates.map(\.row), query: query)
        return zip(candidates, scores).map { candidate, score in
            var candidate = candidate
            candidate.retrievalScore = score
            return candidate
        }
    }

    private func retrievalRequest(_ resolved: ResolvedRequest) -> RetrievalRequest {
        var request = RetrievalRequest(snapshot.manifest.retrieval, minimum: resolved.count)
        // Pinned items come on top.
        request.candidates = min(request.candidates, settings.candidatesMax - resolved.pins.count)
        request.minimum = resolved.wanted(of: request.candidates)
        if let quotas = resolved.profile.placement?.quotas {
            request.quotas = request.quotas.replacing(quotas)
        }
        request.settings = settings.capped(request.settings)
        request.popularity = popularity
        request.excluded = resolved.excluded
        request.filter = resolved.filter
        request.recent = resolved.query.history.suffix(16).map(\.row)
        return request
    }

    /// The candidates as the ranker reads them: its `tower.score` is the user's own, also when a basket was
    /// searched for.
    private func rankedCandidates(_ slate: Slate, _ resolved: ResolvedRequest) throws(Problem) -> [Candidate]
    {
        guard !resolved.queryItems.isEmpty, let towerVector else { return slate.candidates }
        do throws(RetrievalError) { return try scored(slate.candidates, by: towerVector) } catch {
            throw Problem(error)
        }
    }

    private func scoreSequence(_ slate: inout Slate, _ clock: inout StageClock) {
        let start = MonotonicClock.nanoseconds
        ranker.scoreSequence()
        costs.sequence.learn(nanoseconds: clock.end(.sequence) &- start, units: slate.candidates.count)
        if !hasRanker { slate.use(ranker.sequenceValues(), as: .sequence) }
    }

    private func rank(
        _ resolved: ResolvedRequest, _ request: RecommendRequest, _ slate: inout Slate,
        _ clock: inout StageClock
    ) throws(Problem) {
        let start = MonotonicClock.nanoseconds
        do throws(RankingError) {
            try ranker.rank(userVector: towerVector)
            slate.use(try ranker.values(weights: resolved.profile.weights), as: .value)
        } catch {
            throw Problem(error, request)
        }
        costs.rank.learn(nanoseconds: clock.end(.rank) &- start, units: slate.candidates.count)
        metrics.candidatesRanked.record(Double(slate.candidates.count))
    }

    /// The most popular items, for callers of whom nothing is known and when there is time for nothing else.
    private func popular(_ resolved: ResolvedRequest, _ clock: inout StageClock) throws(Problem) -> Slate {
        var slate = Slate()
        if let candidates = resolved.candidates {
            slate.candidates = candidates
            slate.count(excluded: resolved.excludedCandidates, filtered: resolved.filteredCandidates)
        } else {
            var request = retrievalRequest(resolved)
            // A cursor goes on with what is popular behind the page.
            request.candidates = max(request.minimum, settings.slateItems)
            request.quotas = .init(popular: request.candidates)
            do throws(RetrievalError) { slate.take(try retriever.retrieve(request)) } catch {
                throw Problem(error)
            }
            slate.add(pinned: resolved.pinned)
        }
        slate.use(
            slate.candidates.map { popularity.score($0.row, in: snapshot.catalog) }, as: .popularity)
        clock.end(.retrieve)
        return slate
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
        // Caps may make a page shorter, too: that is not the catalogue's doing.
        let isShort = slate.availableCount < resolved.count
        metrics.itemsReturned.record(Double(items.count))
        metrics.scoresDropped.add(slate.droppedCount)
        if isShort { metrics.shortAnswers.add() }
        return Recommendation(
            modelVersion: snapshot.manifest.modelVersion, placement: resolved.profile.placement?.name,
            variant: resolved.profile.variant, scoreKind: slate.scoreKind, items: items,
            isShort: isShort,
            degraded: slate.degraded,
            history: .init(
                events: resolved.query.history.count, unknown: resolved.unknownEvents,
                cache: ranker.historyOutcome, reused: ranker.reusedEvents),
            unknownCandidates: resolved.unknownCandidates, unknownQueryItems: resolved.unknownQueryItems,
            trace: request.explain ? slate.trace : nil,
            tail: slate.tail(
                maximum: settings.slateItems, count: resolved.count, diversity: resolved.profile.diversity,
                placement: resolved.profile.placement),
            seen: HeldSlate.SeenRule(
                excludes: resolved.seen, now: resolved.query.now,
                since: request.history == nil ? nil : Double(WallClock.nanoseconds) / 1e9),
            fields: resolved.fields, count: resolved.count)
    }

    /// The attributes of `row` that are asked for and there.
    func attributes(_ row: Int, _ fields: [String]) -> [(name: String, value: FeatureValue)] {
        fields.compactMap { field in snapshot.catalog.attribute(row, field).map { (field, $0) } }
    }

    private func explanation(_ slate: Slate, _ index: Int) -> Recommendation.Explanation {
        let candidate = slate.candidates[index]
        let tasks = snapshot.ranking.network?.tasks ?? []
        return Recommendation.Explanation(
            sources: candidate.sources.names,
            retrievalScore: slate.hasRetrievalScores ? candidate.retrievalScore : nil,
            sequenceScore: ranker.sequenceScores?[index, 0], sequenceDot: ranker.sequenceDots?[index, 0],
            probabilities: zip(tasks, ranker.probabilities(of: index)).map { ($0.name, $1) },
            value: slate.scoreKind == .value ? slate.unboosted[index] : nil)
    }
}
