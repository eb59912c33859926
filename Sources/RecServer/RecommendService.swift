import HTTP
import JSON
import Logging
import Threading

/// What all threads of the daemon share: the published snapshot, metrics, ids, the log; and the HTTP edge
/// around them.
final class RecommendService: Sendable {
    let settings: PipelineSettings
    let metrics = Metrics()
    let logger: Logger
    let identifiers = IdentifierSource()
    let registry: BundleRegistry
    let reaper: BundleReaper
    private let draining = Lock(false)

    init(
        settings: PipelineSettings, keepsPrevious: Bool = true, logger: Logger,
        didRetire: @escaping @Sendable (LoadedBundle) -> Void = { _ in }
    ) throws(ThreadingError) {
        self.settings = settings
        self.logger = logger
        reaper = try BundleReaper(logger: logger, didRetire: didRetire)
        registry = BundleRegistry(reaper: reaper, keepsPrevious: keepsPrevious)
    }

    /// Whether the process is on its way out.
    var isDraining: Bool { draining.withLock { $0 } }

    func beginDraining() { draining.withLock { $0 = true } }

    // MARK: Answers

    /// A JSON answer with the headers every answer has.
    func response(json body: [UInt8], requestID: String, serverTiming: String? = nil) -> HTTPResponse {
        var headers = [
            ("Content-Type", "application/json"), ("X-Request-Id", requestID), ("Cache-Control", "no-store"),
        ]
        if let serverTiming { headers.append(("Server-Timing", serverTiming)) }
        return HTTPResponse(status: 200, headers: headers, body: body)
    }

    /// A problem as its answer.
    func response(for problem: Problem, requestID: String) -> HTTPResponse {
        var headers = [
            ("Content-Type", "application/problem+json"), ("X-Request-Id", requestID),
            ("Cache-Control", "no-store"),
        ]
        if let seconds = problem.retryAfter { headers.append(("Retry-After", String(seconds))) }
        if let allow = problem.allow { headers.append(("Allow", allow)) }
        return HTTPResponse(
            status: problem.kind.status, headers: headers, body: problem.encoded(requestID: requestID))
    }

    /// The answer to what the HTTP layer refuses before there is a request.
    func response(for error: HTTPProtocolError) -> HTTPResponse {
        let kind: Problem.Kind =
            switch error.status {
            case 408: .timeout
            case 413: .contentTooLarge
            case 414: .targetTooLong
            case 417: .expectationFailed
            case 431: .headersTooLarge
            case 500: .internalError
            case 501: .notImplemented
            case 503: .overloaded
            case 505: .unsupportedVersion
            default: .badRequest
            }
        return response(
            for: Problem(kind, error.detail, retryAfter: error.status == 503 ? 1 : nil),
            requestID: identifiers.next())
    }

    /// Sends an answer and records it.
    func finish(_ request: HTTPRequest, route: Metrics.Route, _ response: HTTPResponse, _ exchange: Exchange)
    {
        exchange.respond(response)
        metrics.record(
            route, status: response.status, nanoseconds: MonotonicClock.nanoseconds &- request.receivedAt)
    }

    // MARK: Compute-side endpoints

    /// `POST /recommend`.
    /// - Parameter copy: receives what the shadow has to do, where it has to do anything.
    func recommend(_ job: Job, copy: inout ShadowJob?) throws(Problem) -> HTTPResponse {
        try requireJSON(job.request)
        var clock = StageClock(start: job.queuedAt)
        clock.end(.queue)
        let request = try RecommendRequest(body: job.request.body)
        if let header = job.request.headers.first("X-User-Id"), let userID = request.userID, header != userID
        {
            throw Problem(
                .badRequest, "X-User-Id and user_id differ",
                errors: [.init(pointer: "/user_id", detail: "differs from X-User-Id")])
        }
        let choice = try registry.choose(
            model: request.model, userID: request.userID, requestID: job.requestID)
        let now = request.now ?? Double(WallClock.nanoseconds) / 1e9
        let recommendation = try choice.bundle.pipelines.lend { pipeline throws(Problem) in
            try pipeline.recommend(request, receivedAt: job.request.receivedAt, clock: &clock)
        }
        metrics.requests(choice.label).add()
        let body = recommendation.encoded(
            recommendationID: identifiers.next(), requestID: job.requestID,
            model: choice.label?.rawValue ?? recommendation.modelVersion)
        clock.end(.encode)
        for (stage, nanoseconds) in clock.durations where stage != .queue {
            metrics.record(stage, nanoseconds: nanoseconds)
        }
        // An answer that left stages out is no measure for one that does not.
        if let shadow = choice.shadow, recommendation.degraded.isEmpty {
            var again = request
            again.now = now
            copy = ShadowJob(bundle: shadow, request: again, sent: recommendation.items.map(\.itemID))
        }
        return response(json: body, requestID: job.requestID, serverTiming: clock.header)
    }

    /// `GET /similar/{item_id}`, from the default.
    func similar(_ job: Job, itemID: String) throws(Problem) -> HTTPResponse {
        var clock = StageClock(start: job.queuedAt)
        clock.end(.queue)
        let request = try SimilarRequest(itemID: itemID, query: job.request.query)
        clock.end(.decode)
        let choice = try registry.choose(
            model: BundleLabel.default.rawValue, userID: nil, requestID: job.requestID)
        let answer = try choice.bundle.pipelines.lend { pipeline throws(Problem) in
            try pipeline.similar(request)
        }
        clock.end(.retrieve)
        let body = answer.encoded(requestID: job.requestID)
        clock.end(.encode)
        return response(json: body, requestID: job.requestID, serverTiming: clock.header)
    }

    /// A body must say that it is JSON; an empty one need not.
    func requireJSON(_ request: HTTPRequest) throws(Problem) {
        if request.body.isEmpty { return }
        let type = (request.headers.first("Content-Type") ?? "").lowercased()
        let essence = type.prefix { $0 != ";" && $0 != " " }
        guard essence == "application/json" else {
            throw Problem(.unsupportedMediaType, "send Content-Type: application/json")
        }
    }
}
