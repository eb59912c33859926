import HTTP
import Ranking
import Threading
import UserState

/// `POST /recommend`, one request or a batch of lines, and `GET /similar`, on a compute thread.
extension ComputeWorker {
    static let ndjson = "application/x-ndjson"

    /// - Parameter copies: receives what the shadow has to do.
    /// - Returns: nil for a batch that is to go on later.
    func recommend(
        _ job: inout Job, _ clock: inout StageClock, _ copies: inout [ShadowJob]
    ) throws(Problem) -> HTTPResponse? {
        let headers = try RequestHeaders(job.request.headers)
        if try isBatch(job.request) { return try recommendBatch(&job, headers, &clock, &copies) }
        let body = try answer(
            job, job.request.body, headers, receivedAt: job.request.receivedAt, &clock, &copies)
        return applied(
            headers, service.response(json: body, requestID: job.requestID, serverTiming: clock.header))
    }

    /// The encoded answer to one body: the job's or a line of it.
    func answer(
        _ job: Job, _ body: [UInt8], _ headers: RequestHeaders, receivedAt: UInt64, _ clock: inout StageClock,
        _ copies: inout [ShadowJob]
    ) throws(Problem) -> [UInt8] {
        let requestID = job.requestID
        var request = try RecommendRequest(body: body, isLenient: headers.isLenient)
        try headers.identify(&request)
        if let cursor = request.cursor {
            return try page(of: cursor, request, requestID, &clock)
        }
        if let token = request.minSequence {
            // From when the job came: the lines of a batch wait together, not one after the other.
            let milliseconds = request.deadlineMilliseconds ?? service.settings.deadlineMilliseconds
            try waits.wait(
                for: token, user: request.userID, in: service.users,
                until: job.request.receivedAt &+ UInt64(milliseconds) * 1_000_000)
        }
        let choice = try service.registry.choose(
            model: request.model, userID: request.userID, requestID: requestID)
        let erasures = service.erasures.value
        let stored = service.storedUser(request.userID)
        let now = request.now ?? Double(WallClock.nanoseconds) / 1e9
        let viewer = Viewer(
            service.shown, user: request.userID, model: choice.label?.rawValue ?? choice.bundle.modelVersion,
            hasConsent: stored?.hasConsent ?? true, now: Double(WallClock.nanoseconds) / 1e9)
        let recommendation = try choice.bundle.pipelines.lend { pipeline throws(Problem) in
            try pipeline.recommend(
                request, stored: stored, viewer: viewer, receivedAt: receivedAt, relief: job.relief,
                clock: &clock)
        }
        viewer?.note(recommendation)
        clock.modelVersion = recommendation.modelVersion
        clock.cache = recommendation.history.cache
        clock.degraded = recommendation.degraded
        service.metrics.requests(choice.label).add()
        let recommendationID = service.identifiers.next()
        let model = choice.label?.rawValue ?? recommendation.modelVersion
        let answer = recommendation.encoded(
            recommendationID: recommendationID, requestID: requestID, model: model,
            nextCursor: hold(recommendation, recommendationID, model, request.userID, choice.bundle.snapshot))
        if let user = request.userID {
            // Erased meanwhile: what this request has encoded and remembered must go, too.
            if service.erasures.value != erasures {
                choice.bundle.histories?.remove(user: user)
                service.slates.removeAll(user: user)
                service.shown.remove(user: user)
            }
            follower?.noteSeen(user)
        }
        service.feedback?.record(recommendation, id: recommendationID)
        clock.end(.encode)
        for (stage, nanoseconds) in clock.durations where stage != .queue {
            service.metrics.record(
                stage, nanoseconds: nanoseconds, traceID: job.context.recordedTraceID)
        }
        // An answer that left stages out is no measure for one that does not.
        if let shadow = choice.shadow, recommendation.degraded.isEmpty {
            request.now = now
            copies.append(
                ShadowJob(
                    bundle: shadow, request: request, stored: stored,
                    sent: recommendation.items.map(\.itemID), erasures: service.erasures,
                    erasuresBefore: erasures))
        }
        return answer
    }

    func applied(_ headers: RequestHeaders, _ response: HTTPResponse) -> HTTPResponse {
        guard headers.isLenient else { return response }
        var response = response
        response.headers.append(("Preference-Applied", "handling=lenient"))
        return response
    }

    /// Whether the body is a batch. A body must say what it is; an empty one need not.
    private func isBatch(_ request: HTTPRequest) throws(Problem) -> Bool {
        let essence = request.mediaType
        if essence == Self.ndjson { return true }
        guard request.body.isEmpty || essence == "application/json" else {
            throw Problem(
                .unsupportedMediaType, "send Content-Type: application/json, or \(Self.ndjson) for a batch")
        }
        return false
    }

    func similar(_ job: Job, itemID: String, _ clock: inout StageClock) throws(Problem) -> HTTPResponse {
        let request = try SimilarRequest(itemID: itemID, query: job.request.query)
        clock.end(.decode)
        let choice = try service.registry.choose(
            model: BundleLabel.default.rawValue, userID: nil, requestID: job.requestID)
        let answer = try choice.bundle.pipelines.lend { pipeline throws(Problem) in
            try pipeline.similar(request)
        }
        clock.end(.retrieve)
        let body = answer.encoded(requestID: job.requestID)
        clock.end(.encode)
        return service.response(json: body, requestID: job.requestID, serverTiming: clock.header)
    }
}
