import Threading
import UserState

/// The pages of a slate, on a compute thread.
extension ComputeWorker {
    /// Holds what follows an answer, if anything does: the cursor that continues it.
    func hold(
        _ recommendation: Recommendation, _ recommendationID: String, _ model: String, _ user: String?,
        _ snapshot: Snapshot
    ) -> String? {
        guard let tail = recommendation.tail else { return nil }
        let slate = HeldSlate(
            HeldSlate.Facts(
                recommendationID: recommendationID, model: model, modelVersion: recommendation.modelVersion,
                placement: recommendation.placement, variant: recommendation.variant,
                scoreKind: recommendation.scoreKind, degraded: recommendation.degraded,
                history: recommendation.history, count: recommendation.count,
                fields: recommendation.fields, seen: recommendation.seen),
            user: user, offset: recommendation.items.count, snapshot, tail)
        return service.slates.add(slate, of: snapshot, now: MonotonicClock.nanoseconds)
    }

    /// The encoded next page of a slate.
    func page(
        of cursor: String, _ request: RecommendRequest, _ requestID: String, _ clock: inout StageClock
    ) throws(Problem) -> [UInt8] {
        clock.end(.decode)
        let (page, next) = try service.slates.page(
            cursor, count: request.count, user: request.userID, now: MonotonicClock.nanoseconds
        ) { slate in
            slate.facts.seen.items(of: service.storedUser(slate.user))
        }
        clock.end(.slate)
        note(page)
        let answer = page.encoded(requestID: requestID, nextCursor: next)
        clock.end(.encode)
        for (stage, nanoseconds) in clock.durations where stage != .queue {
            service.metrics.record(stage, nanoseconds: nanoseconds)
        }
        return answer
    }

    /// Remembers and logs what a later page shows.
    private func note(_ page: SlatePage) {
        if service.shown.ignoredAfter > 0, let user = page.user,
            service.storedUser(user)?.hasConsent ?? true
        {
            service.shown.note(
                page.items.map(\.id), to: user, nil, now: Double(WallClock.nanoseconds) / 1e9)
        }
        let id = page.facts.recommendationID
        if let feedback = service.feedback, feedback.isLogged(id) {
            feedback.record(page.recommendation, id: id, firstPosition: page.offset)
        }
    }
}
