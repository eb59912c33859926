import HTTP
import Threading
import UserState

/// The loop side of the HTTP edge: routes, answers what needs no computing, admits the rest to the queue.
///
/// Health and metrics are answered here, so that they are even when every compute thread is busy.
struct LoopHandler: Sendable {
    let service: RecommendService
    let pool: ComputePool
    let loads: BundleLoads
    let openAPI: [UInt8]
    let version: VersionAnswer
    /// Wall clock at the start, nanoseconds since 1970.
    let startedAt: Int64
    /// The listener's counters, once there is one.
    let counters: @Sendable () -> HTTPCounters?

    /// The answer, or nil when a compute thread will give it.
    func handle(_ request: HTTPRequest, _ deferral: Deferral) -> HTTPResponse? {
        var context = service.context(of: request)
        let requestID = context.requestID
        let response: HTTPResponse
        var route: Metrics.Route?
        do throws(Problem) {
            let match = try Router.match(method: request.method, path: request.path)
            route = match.route
            context.key = try service.access.admit(request, to: match)
            switch match {
            case .recommend, .similar, .events, .user, .removeEvent:
                try requireState(match)
                try admit(
                    Job(
                        request: request, match: match, context: context, exchange: deferral.exchange(),
                        queuedAt: MonotonicClock.nanoseconds))
                return nil
            case .livez: response = text("ok\n", requestID)
            case .readyz, .healthz: response = try readiness(request, requestID)
            case .version:
                response = HTTPResponse(
                    status: 200, fields: Self.json, requestID: requestID, body: version.body(service))
            case .metrics: response = metrics(request, requestID)
            case .openapi:
                response = HTTPResponse(
                    status: 200,
                    headers: [
                        ("Content-Type", "application/yaml"), ("X-Request-Id", requestID),
                        ("Cache-Control", "no-cache"),
                    ],
                    body: openAPI)
            }
        } catch {
            response = service.response(for: error, requestID: requestID)
        }
        service.record(request, context, route: route ?? Router.route(path: request.path), response)
        return response
    }

    /// - Throws: `.notImplemented` for what needs user state where none is kept.
    private func requireState(_ match: Router.Match) throws(Problem) {
        guard match.needsState, service.users == nil else { return }
        throw Problem(.notImplemented, "the setting state_dir is missing: nothing is kept of users")
    }

    private func admit(_ job: Job) throws(Problem) {
        guard service.registry.isReady else {
            throw Problem(.notReady, "no bundle is loaded yet", retryAfter: 1)
        }
        guard pool.offer(job) else {
            service.metrics.shed.add()
            throw Problem(.overloaded, "the queue is full", retryAfter: 1)
        }
    }

    private static let plain = HTTPFields([
        ("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"),
    ])
    private static let json = HTTPFields([
        ("Content-Type", "application/json"), ("Cache-Control", "no-store"),
    ])

    private func text(_ text: String, _ requestID: String) -> HTTPResponse {
        HTTPResponse(status: 200, fields: Self.plain, requestID: requestID, body: Array(text.utf8))
    }

    /// 200 when a bundle serves and the process is not on its way out; `?verbose` lists the checks.
    private func readiness(_ request: HTTPRequest, _ requestID: String) throws(Problem) -> HTTPResponse {
        let checks = [("bundle", service.registry.isReady), ("not_draining", !service.isDraining)]
        let isVerbose =
            request.query?.split(separator: "&").contains { $0 == "verbose" || $0.hasPrefix("verbose=") }
            ?? false
        var lines = checks.map { "[\($0.1 ? "+" : "-")]\($0.0) \($0.1 ? "ok" : "failed")" }
        for label in BundleLabel.allCases {
            guard let assignment = service.registry.assignment(label) else { continue }
            lines.append("[i]\(label.rawValue) \(assignment.bundle.modelVersion)")
        }
        // No reason to take no requests: recommending goes on without it.
        if let users = service.users {
            lines.append("[i]user_state \(users.counters.lastFailure == nil ? "ok" : "failing")")
        }
        if let failed = checks.first(where: { !$0.1 }) {
            throw Problem(
                .notReady, isVerbose ? lines.joined(separator: "; ") : "\(failed.0) failed", retryAfter: 1)
        }
        return text(isVerbose ? lines.joined(separator: "\n") + "\nready\n" : "ok\n", requestID)
    }

    private func metrics(_ request: HTTPRequest, _ requestID: String) -> HTTPResponse {
        let isOpenMetrics = request.headers.first("Accept")?.contains("application/openmetrics-text") ?? false
        var writer = MetricsWriter(isOpenMetrics: isOpenMetrics)
        MetricsReport(
            service: service, pool: pool, loads: loads, counters: counters(), version: version.server,
            startedAt: startedAt
        ).write(to: &writer)
        return HTTPResponse(
            status: 200,
            headers: [
                ("Content-Type", writer.contentType), ("X-Request-Id", requestID),
                ("Cache-Control", "no-store"),
            ],
            body: Array(writer.text.utf8))
    }
}
