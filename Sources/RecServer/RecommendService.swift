import HTTP
import Logging
import Threading
import UserState

/// What all threads of the daemon share: the published snapshot, metrics, ids, the log; and the HTTP edge
/// around them.
final class RecommendService: Sendable {
    let settings: PipelineSettings
    let metrics = Metrics()
    let logger: Logger
    let identifiers: IdentifierSource
    let registry: BundleRegistry
    let reaper: BundleReaper
    /// What users did; nil when nothing is kept.
    let users: UserStates?
    /// What cursors continue.
    let slates: Slates
    /// What users were shown lately.
    let shown: ShownItems
    /// Who may ask.
    let access: Access
    /// What is done to every answer.
    let edge: Edge
    /// The log of slates shown; nil when none is kept.
    let feedback: FeedbackLog?
    /// The log of requests; nil when none is kept.
    let accessLog: AccessLog?
    /// Where spans go; nil when nowhere.
    let spans: SpanExporter?
    /// For failures to read it, which come in thousands.
    let userReadLog = LogPace()
    /// Users erased so far.
    let erasures = Counter()
    /// What is popular by events; nil where they do not count.
    let popularity: EventPopularity?
    private let draining = Lock(false)

    init(
        settings: PipelineSettings, keepsPrevious: Bool = true, historyBytes: Int = 0,
        users: UserStates? = nil, slates: Slates = Slates(byteLimit: 1 << 26, ttlSeconds: 1800),
        shown: ShownItems = ShownItems(),
        access: Access = Access(), edge: Edge = Edge(), feedback: FeedbackLog? = nil,
        accessLog: AccessLog? = nil,
        spans: SpanExporter? = nil, identifiers: IdentifierSource = IdentifierSource(), logger: Logger
    ) throws(ThreadingError) {
        self.settings = settings
        self.users = users
        self.slates = slates
        self.shown = shown
        self.access = access
        self.edge = edge
        self.feedback = feedback
        self.accessLog = accessLog
        self.spans = spans
        self.identifiers = identifiers
        self.logger = logger
        popularity = users == nil ? nil : EventPopularity(settings)
        reaper = try BundleReaper(slates: slates, logger: logger)
        registry = BundleRegistry(
            reaper: reaper, keepsPrevious: keepsPrevious,
            historyBudget: HistoryBudget(byteCount: historyBytes))
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

    /// An answer without content.
    func emptyResponse(requestID: String) -> HTTPResponse {
        HTTPResponse(
            status: 204, headers: [("X-Request-Id", requestID), ("Cache-Control", "no-store")], body: [])
    }

    /// A problem as its answer.
    func response(for problem: Problem, requestID: String, serverTiming: String? = nil) -> HTTPResponse {
        var headers = [
            ("Content-Type", "application/problem+json"), ("X-Request-Id", requestID),
            ("Cache-Control", "no-store"),
        ]
        if let seconds = problem.retryAfter { headers.append(("Retry-After", String(seconds))) }
        if problem.kind == .unauthorized { headers.append(("WWW-Authenticate", "Bearer")) }
        if problem.kind == .unsupportedCoding { headers.append(("Accept-Encoding", "gzip")) }
        if let allow = problem.allow { headers.append(("Allow", allow)) }
        if let serverTiming { headers.append(("Server-Timing", serverTiming)) }
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
        let requestID = identifiers.next()
        accessLog?.recordRefusal(
            status: kind.status, requestID: requestID, time: WallClock.nanoseconds)
        return response(
            for: Problem(kind, error.detail, retryAfter: error.status == 503 ? 1 : nil),
            requestID: requestID)
    }

    // MARK: Requests

    /// Who a request is that begins now.
    func context(of request: HTTPRequest) -> RequestContext {
        let parent = TraceContext(request.headers)
        return RequestContext(
            requestID: identifiers.requestID(request.headers.first("X-Request-Id")), parent: parent,
            span: spans?.span(in: parent))
    }

    /// Sends an answer and records it.
    /// - Parameters:
    ///   - clock: the stages it ran through; nil where it was answered on the loop.
    ///   - compresses: false on threads that must not work that long.
    func finish(
        _ request: HTTPRequest, _ context: RequestContext, route: Metrics.Route, _ response: HTTPResponse,
        _ exchange: Exchange, _ clock: StageClock? = nil, compresses: Bool = true
    ) {
        let response = edge.completed(response, for: request, compresses: compresses)
        exchange.respond(response)
        record(request, context, route: route, response, clock)
    }

    /// Records an answer that is given.
    func record(
        _ request: HTTPRequest, _ context: RequestContext, route: Metrics.Route, _ response: HTTPResponse,
        _ clock: StageClock? = nil
    ) {
        let end = MonotonicClock.nanoseconds
        metrics.record(
            route, status: response.status, nanoseconds: end &- request.receivedAt,
            traceID: context.recordedTraceID)
        write(
            request, context, route: route, status: response.status, responseBytes: response.body.count,
            clock, end: end)
    }

    /// Records a request whose client had gone before it was computed.
    func abandon(_ request: HTTPRequest, _ context: RequestContext, route: Metrics.Route, _ clock: StageClock)
    {
        metrics.abandoned.add()
        write(
            request, context, route: route, status: RequestRecord.abandonedStatus, responseBytes: 0, clock,
            end: MonotonicClock.nanoseconds)
    }

    /// Writes a request down, where that is asked for.
    private func write(
        _ request: HTTPRequest, _ context: RequestContext, route: Metrics.Route, status: Int,
        responseBytes: Int, _ clock: StageClock?, end: UInt64
    ) {
        guard accessLog != nil || context.span != nil else { return }
        let record = RequestRecord(
            request: request, context: context, route: route, status: status, responseBytes: responseBytes,
            clock: clock, end: end, endTime: WallClock.nanoseconds)
        accessLog?.record(record)
        spans?.record(record)
    }
}
