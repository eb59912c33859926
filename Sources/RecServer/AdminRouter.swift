import HTTP

/// The table of the admin listener's endpoints.
enum AdminRouter {
    /// A request that found its endpoint.
    enum Match: Equatable {
        case list
        case load, promote, rollback, pin
        case remove(version: String)
        case clearHistories, warmHistories
        case removeHistory(user: String)
    }

    /// Finds the endpoint.
    /// - Throws: `.notFound`, `.methodNotAllowed` with the methods there are, `.badRequest` for a malformed
    ///   escape.
    static func match(method: String, path: String) throws(Problem) -> Match {
        let endpoints = try endpoints(path)
        guard !endpoints.isEmpty else { throw Problem(.notFound) }
        guard let match = endpoints.first(where: { $0.method == method })?.match else {
            throw Problem(.methodNotAllowed, allow: endpoints.map(\.method).joined(separator: ", "))
        }
        return match
    }

    private static func endpoints(_ path: String) throws(Problem) -> [(method: String, match: Match)] {
        switch path {
        case "/bundles": return [("GET", .list), ("POST", .load)]
        case "/bundles/promote": return [("POST", .promote)]
        case "/bundles/rollback": return [("POST", .rollback)]
        case "/bundles/pin": return [("POST", .pin)]
        case "/cache": return [("DELETE", .clearHistories)]
        case "/cache/warm": return [("POST", .warmHistories)]
        default:
            if let version = try segment(of: path, after: "/bundles/") {
                return [("DELETE", .remove(version: version))]
            }
            guard let user = try segment(of: path, after: "/cache/users/") else { return [] }
            return [("DELETE", .removeHistory(user: user))]
        }
    }

    /// The one percent-decoded segment behind `prefix`, nil when the path is another.
    private static func segment(of path: String, after prefix: String) throws(Problem) -> String? {
        guard path.hasPrefix(prefix) else { return nil }
        let segment = path.dropFirst(prefix.count)
        guard !segment.isEmpty, !segment.contains("/") else { return nil }
        guard let decoded = PercentDecoding.decode(segment) else {
            throw Problem(.badRequest, "the path has a malformed percent-escape")
        }
        return decoded
    }
}
