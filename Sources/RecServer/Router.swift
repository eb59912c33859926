import HTTP

/// The table of endpoints: what each path accepts and where it runs.
enum Router {
    /// A request that found its endpoint.
    enum Match: Equatable {
        case recommend
        case similar(itemID: String)
        case events
        case user(UserMethod, id: String)
        case removeEvent(user: String, eventID: String)
        case livez, readyz, healthz, version, metrics, openapi

        /// The label in metrics.
        var route: Metrics.Route {
            switch self {
            case .recommend: .recommend
            case .similar: .similar
            case .events: .events
            case .user: .user
            case .removeEvent: .userEvent
            case .livez: .livez
            case .readyz: .readyz
            case .healthz: .healthz
            case .version: .version
            case .metrics: .metrics
            case .openapi: .openapi
            }
        }

        /// Whether it reads or changes what is kept of users, and nothing else.
        var needsState: Bool {
            switch self {
            case .events, .user, .removeEvent: true
            default: false
            }
        }
    }

    /// What may be asked of a user.
    enum UserMethod: Equatable { case get, replace, patch, erase }

    /// Finds the endpoint; HEAD is allowed wherever GET is.
    /// - Throws: `.notFound`, `.methodNotAllowed` with the methods there are, `.badRequest` for a malformed
    ///   escape.
    static func match(method: String, path: String) throws(Problem) -> Match {
        if method == "GET" || method == "HEAD", let match = fixed(path) { return match }
        let endpoints = try endpoints(path)
        guard !endpoints.isEmpty else { throw Problem(.notFound) }
        guard let match = endpoints.first(where: { $0.method == method })?.match else {
            throw Problem(.methodNotAllowed, allow: try methods(path: path).joined(separator: ", "))
        }
        return match
    }

    /// What may be asked of a path, or with `*` of any.
    /// - Throws: `.notFound`, `.badRequest` for a malformed escape.
    static func methods(path: String) throws(Problem) -> [String] {
        if path == "*" { return ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] }
        let endpoints = try endpoints(path)
        guard !endpoints.isEmpty else { throw Problem(.notFound) }
        return endpoints.map(\.method) + ["OPTIONS"]
    }

    /// What is read at a path without variables.
    private static func fixed(_ path: String) -> Match? {
        switch path {
        case "/livez": .livez
        case "/readyz": .readyz
        case "/healthz": .healthz
        case "/version": .version
        case "/metrics": .metrics
        case "/openapi.yaml": .openapi
        default: nil
        }
    }

    private static func endpoints(_ path: String) throws(Problem) -> [(method: String, match: Match)] {
        if let match = fixed(path) { return reading(match) }
        switch path {
        case "/recommend": return [("POST", .recommend)]
        case "/events": return [("POST", .events)]
        default: break
        }
        if path.hasPrefix(similarPrefix) {
            guard let itemID = try ids(path.dropFirst(similarPrefix.count), 1)?.first else { return [] }
            return reading(.similar(itemID: itemID))
        }
        guard path.hasPrefix(usersPrefix) else { return [] }
        let rest = path.dropFirst(usersPrefix.count)
        if let user = try ids(rest, 1)?.first {
            return reading(.user(.get, id: user)) + [
                ("PUT", .user(.replace, id: user)), ("PATCH", .user(.patch, id: user)),
                ("DELETE", .user(.erase, id: user)),
            ]
        }
        guard let ids = try ids(rest, 3), rest.split(separator: "/")[1] == "events" else { return [] }
        return [("DELETE", .removeEvent(user: ids[0], eventID: ids[2]))]
    }

    private static func reading(_ match: Match) -> [(method: String, match: Match)] {
        [("GET", match), ("HEAD", match)]
    }

    /// The label of a path in metrics, whether or not its method is allowed.
    static func route(path: String) -> Metrics.Route {
        if let route = Metrics.Route(rawValue: path), route != .other, !path.contains("{") { return route }
        if path.hasPrefix(similarPrefix) { return .similar }
        guard path.hasPrefix(usersPrefix) else { return .other }
        return path.dropFirst(usersPrefix.count).contains("/") ? .userEvent : .user
    }

    private static let similarPrefix = "/similar/"
    private static let usersPrefix = "/users/"

    /// The segments of a path where there are `count`, none empty: each percent-decoded after routing, so
    /// that `%2F` is data; nil where there are more or fewer.
    private static func ids(_ path: Substring, _ count: Int) throws(Problem) -> [String]? {
        let segments = path.split(separator: "/", maxSplits: count, omittingEmptySubsequences: false)
        guard segments.count == count, !segments.contains(where: \.isEmpty) else { return nil }
        var ids: [String] = []
        for segment in segments {
            guard let id = PercentDecoding.decode(segment) else {
                throw Problem(.badRequest, "the path has a malformed percent-escape")
            }
            guard RecommendRequest.Limits.idBytes.contains(id.utf8.count) else {
                throw Problem(.outOfRange, "an id has 1 to 128 bytes")
            }
            ids.append(id)
        }
        return ids
    }
}
