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
    let openAPI: CodedContent
    let version: VersionAnswer
    /// Wall clock at the start, nanoseconds since 1970.
    let startedAt: Int64
    let certificates: Certificates?
    /// The listener's counters, once there is one.
    let counters: @Sendable () -> HTTPCounters?

    /// The answer, or nil when a compute thread will give it.
    func handle(_ request: HTTPRequest, _ deferral: Deferral) -> HTTPResponse? {
        var context = service.context(of: request)
        var route: Metrics.Route?
        let made: HTTPResponse
        do throws(Problem) {
            guard let answer = try answer(request, &context, &route, deferral) else { return nil }
            made = answer
        } catch {
            made = service.response(for: error, requestID: context.requestID)
        }
        // Of what the loops answer only this is large: 50 KB, in less than a millisecond.
        let compresses = route == .metrics || route == .openapi
        let response = service.edge.completed(made, for: request, compresses: compresses)
        service.record(request, context, route: route ?? Router.route(path: request.path), response)
        return response
    }

    private func answer(
        _ request: HTTPRequest, _ context: inout RequestContext, _ route: inout Metrics.Route?,
        _ deferral: Deferral
    ) throws(Problem) -> HTTPResponse? {
        let requestID = context.requestID
        guard request.method != "OPTIONS" else { return try options(request, requestID) }
        let match = try Router.match(method: request.method, path: request.path)
        route = match.route
        context.key = try service.access.admit(request, to: match)
        switch match {
        case .recommend, .similar, .events, .user, .removeEvent:
            try requireState(match)
            if match.takesBody { try RequestCoding.check(request, allowsGzip: true) }
            try admit(
                Job(
                    request: request, match: match, context: context, exchange: deferral.exchange(),
                    queuedAt: MonotonicClock.nanoseconds))
            return nil
        case .livez: return text("ok\n", requestID)
        case .readyz, .healthz: return try readiness(request, requestID)
        case .version:
            return HTTPResponse(
                status: 200, fields: Self.json, requestID: requestID, body: version.body(service))
        case .metrics: return metrics(request, requestID)
        case .openapi: return openAPI(request, requestID)
        }
    }

    /// What may be asked here, for anybody, and of pages of other origins that are let.
    private func options(_ request: HTTPRequest, _ requestID: String) throws(Problem) -> HTTPResponse {
        let methods = try Router.methods(path: request.path)
        var response = service.emptyResponse(requestID: requestID)
        response.headers.append(("Allow", methods.joined(separator: ", ")))
        response.headers += service.edge.origins?.preflight(for: request, methods: methods) ?? []
        return response
    }

    private func openAPI(_ request: HTTPRequest, _ requestID: String) -> HTTPResponse {
        let headers = [
            ("Content-Type", "application/yaml"), ("X-Request-Id", requestID), ("Cache-Control", "no-cache"),
        ]
        guard service.edge.compression != nil else {
            return HTTPResponse(status: 200, headers: headers, body: openAPI.plain)
        }
        return openAPI.response(for: request, headers: headers)
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
        try pool.admit(job)
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
            service: service, pool: pool, loads: loads, certificates: certificates, counters: counters(),
            version: version.server, startedAt: startedAt
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
