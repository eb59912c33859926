import Artifacts
import HTTP
import JSON
import Logging
import Ranking
import Threading

/// The admin listener's side: loads versions and moves labels, for peers on this machine.
///
/// Runs on the listener's loop; loads go to their own thread, all else takes microseconds.
struct AdminHandler: Sendable {
    let service: RecommendService
    let loads: BundleLoads

    func handle(_ request: HTTPRequest, _ exchange: Exchange) {
        let requestID = service.identifiers.requestID(request.headers.first("X-Request-Id"))
        do throws(Problem) {
            try service.access.admitAdministrator(request)
            switch try AdminRouter.match(method: request.method, path: request.path) {
            case .list: break
            case .load: return try load(request, requestID, exchange)
            case .promote: try promote(request)
            case .rollback:
                if let order = try rollBack(request) { return try begin(order, request, requestID, exchange) }
            case .pin: try pin(request)
            case .clearHistories:
                for version in service.registry.versions { version.histories?.removeAll() }
            case .removeHistory(let user):
                for version in service.registry.versions { version.histories?.remove(user: user) }
            case .warmHistories: return try warm(request, requestID, exchange)
            case .remove(let version):
                try change { () throws(BundleRegistry.Refusal) in try service.registry.remove(version) }
            }
            if request.method != "GET" {
                service.logger.info(
                    "admin", metadata: ["method": "\(request.method)", "path": "\(request.path)"])
            }
            exchange.respond(status(requestID))
        } catch {
            exchange.respond(service.response(for: error, requestID: requestID))
        }
    }

    private func status(_ requestID: String, status: Int = 200) -> HTTPResponse {
        var response = service.response(
            json: BundleStatus(registry: service.registry, reaper: service.reaper, loads: loads).encoded(),
            requestID: requestID)
        response.status = status
        return response
    }

    // MARK: Endpoints

    private func load(_ request: HTTPRequest, _ requestID: String, _ exchange: Exchange) throws(Problem) {
        let order = try decode(request) { reader throws(JSONSchemaError) in
            BundleLoads.Order(
                path: try reader.string("path", bytes: 1...4096),
                label: try Self.label(&reader, "label") ?? .default,
                share: try reader.optionalNumber("share", in: 0...1),
                isPinned: try reader.optionalBoolean("pin"))
        }
        try begin(order, request, requestID, exchange)
    }

    /// Begins a load: 202 at once, or with `?wait=true` the answer when it has ended.
    private func begin(
        _ order: BundleLoads.Order, _ request: HTTPRequest, _ requestID: String, _ exchange: Exchange
    ) throws(Problem) {
        let waits = QueryString(request.query)?.first("wait") == "true"
        let isBegun = loads.begin(order) { [self] result in
            guard waits else { return }
            if case .refused(let refusal) = result {
                let kind: Problem.Kind =
                    [.registry, .space].contains(refusal.reason) ? .conflict : .bundleRefused
                let problem = Problem(kind, refusal.detail)
                exchange.respond(service.response(for: problem, requestID: requestID))
            } else {
                exchange.respond(status(requestID))
            }
        }
        guard isBegun else { throw Problem(.conflict, "another load is under way") }
        if !waits { exchange.respond(status(requestID, status: 202)) }
    }

    /// Most users that one request may ask to be warmed.
    private static let warmMaximum = 10_000

    /// Begins to encode users' stored histories: 202 at once, or with `?wait=true` the answer when it has
    /// ended.
    private func warm(_ request: HTTPRequest, _ requestID: String, _ exchange: Exchange) throws(Problem) {
        let users = try decode(request) { reader throws(JSONSchemaError) in
            var users: [String] = []
            let list = try reader.required(
                "users", try reader.optionalArray("users", maximum: Self.warmMaximum))
            for (index, value) in list.enumerated() {
                users.append(
                    try JSONObjectReader.string(
                        value, at: "/users/\(index)", bytes: RecommendRequest.Limits.idBytes))
            }
            return users
        }
        let waits = QueryString(request.query)?.first("wait") == "true"
        let isBegun = loads.warm(users) { [self] in
            if waits { exchange.respond(status(requestID)) }
        }
        guard isBegun else { throw Problem(.conflict, "a load is under way") }
        if !waits { exchange.respond(status(requestID, status: 202)) }
    }

    private func promote(_ request: HTTPRequest) throws(Problem) {
        let (source, target) = try decode(request) { reader throws(JSONSchemaError) in
            (
                try reader.required("from", try Self.label(&reader, "from")),
                try Self.label(&reader, "to") ?? .default
            )
        }
        try change { () throws(BundleRegistry.Refusal) in
            try service.registry.promote(source, to: target)
        }
    }

    /// - Returns: what has to be loaded first, nil when the label is switched already.
    private func rollBack(_ request: HTTPRequest) throws(Problem) -> BundleLoads.Order? {
        let label = try decode(request) { reader throws(JSONSchemaError) in
            try Self.label(&reader, "label") ?? .default
        }
        let rollback = try change { () throws(BundleRegistry.Refusal) in
            try service.registry.rollBack(label)
        }
        guard case .needsLoad(let previous) = rollback else { return nil }
        return BundleLoads.Order(
            path: previous.path, label: label, share: previous.share, digest: previous.digest)
    }

    private func pin(_ request: HTTPRequest) throws(Problem) {
        let (label, isPinned) = try decode(request) { reader throws(JSONSchemaError) in
            (
                try Self.label(&reader, "label") ?? .default,
                try reader.required("pinned", try reader.optionalBoolean("pinned"))
            )
        }
        try change { () throws(BundleRegistry.Refusal) in
            try service.registry.setPinned(label, isPinned)
        }
    }

    // MARK: Bodies and refusals

    private func decode<Value>(
        _ request: HTTPRequest, _ body: (inout JSONObjectReader) throws(JSONSchemaError) -> Value
    ) throws(Problem) -> Value {
        try requireJSON(request)
        let document: JSONValue
        do throws(JSONSyntaxError) {
            document =
                request.body.isEmpty
                ? .object(JSONObject([])) : try JSONParser.parse(request.body, depthMaximum: 4)
        } catch {
            throw Problem(error)
        }
        do throws(JSONSchemaError) {
            var reader = try JSONObjectReader(document, at: "")
            let value = try body(&reader)
            try reader.finish()
            return value
        } catch {
            throw Problem(error)
        }
    }

    private static func label(_ reader: inout JSONObjectReader, _ name: String) throws(JSONSchemaError)
        -> BundleLabel?
    {
        guard reader.value(name) != nil else { return nil }
        return try reader.choice(name, BundleLabel.allCases.map { ($0.rawValue, $0) })
    }

    private func change<Value>(_ body: () throws(BundleRegistry.Refusal) -> Value) throws(Problem) -> Value {
        do throws(BundleRegistry.Refusal) { return try body() } catch { throw problem(error) }
    }

    private func problem(_ refusal: BundleRegistry.Refusal) -> Problem {
        if case .unknownVersion = refusal { return Problem(.notFound, refusal.description) }
        return Problem(.conflict, refusal.description)
    }

    /// A body must say that it is JSON; an empty one need not.
    private func requireJSON(_ request: HTTPRequest) throws(Problem) {
        if request.body.isEmpty { return }
        try RequestCoding.check(request, allowsGzip: false)
        guard request.mediaType == "application/json" else {
            throw Problem(.unsupportedMediaType, "send Content-Type: application/json")
        }
    }
}
