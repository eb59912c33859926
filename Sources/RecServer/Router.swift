import HTTP

/// The table of endpoints: what each path accepts and where it runs.
enum Router {
    /// A request that found its endpoint.
    enum Match: Equatable {
        case recommend
        case similar(itemID: String)
        case livez, readyz, healthz, version, metrics, openapi
    }

    /// Finds the endpoint; HEAD is allowed wherever GET is.
    /// - Throws: `.notFound`, `.methodNotAllowed` with the methods there are, `.badRequest` for a malformed
    ///   escape.
    static func match(method: String, path: String) throws(Problem) -> Match {
        let match: Match
        var methods = ["GET", "HEAD"]
        switch path {
        case "/recommend":
            match = .recommend
            methods = ["POST"]
        case "/livez": match = .livez
        case "/readyz": match = .readyz
        case "/healthz": match = .healthz
        case "/version": match = .version
        case "/metrics": match = .metrics
        case "/openapi.yaml": match = .openapi
        default: match = .similar(itemID: try similarItem(path))
        }
        guard methods.contains(method) else {
            throw Problem(.methodNotAllowed, allow: methods.joined(separator: ", "))
        }
        return match
    }

    /// The label of a path in metrics, whether or not its method is allowed.
    static func route(path: String) -> Metrics.Route {
        if let route = Metrics.Route(rawValue: path), route != .similar, route != .other { return route }
        return path.hasPrefix(similarPrefix) ? .similar : .other
    }

    private static let similarPrefix = "/similar/"

    /// The item of `/similar/{item_id}`: one path segment, percent-decoded after routing so that `%2F` is
    /// data.
    private static func similarItem(_ path: String) throws(Problem) -> String {
        guard path.hasPrefix(similarPrefix) else { throw Problem(.notFound) }
        let segment = path.dropFirst(similarPrefix.count)
        guard !segment.isEmpty, !segment.contains("/") else { throw Problem(.notFound) }
        guard let itemID = PercentDecoding.decode(String(segment)) else {
            throw Problem(.badRequest, "the path has a malformed percent-escape")
        }
        guard RecommendRequest.Limits.idBytes.contains(itemID.utf8.count) else {
            throw Problem(.outOfRange, "an item id has 1 to 128 bytes")
        }
        return itemID
    }
}
