import HTTP

/// Who may do what.
///
/// Without keys, what changes state or shows what is held of a user is for peers on this machine alone.
enum Access {
    /// - Throws: `.forbidden`.
    static func check(_ match: Router.Match, _ request: HTTPRequest) throws(Problem) {
        if match.needsState { try requireLocal(request) }
    }

    /// Being on this machine, and neither a web page shown on it nor sent on by a proxy, is what counts.
    /// - Throws: `.forbidden`.
    static func requireLocal(_ request: HTTPRequest) throws(Problem) {
        guard request.isLoopback else { throw Problem(.forbidden, "only peers on this machine may ask") }
        guard !forwarding.contains(where: { request.headers.first($0) != nil }) else {
            throw Problem(.forbidden, "only peers on this machine may ask, not through a proxy")
        }
        // A page may have its own name lead here; a browser then says that name.
        let host = request.headers.first("Host") ?? ""
        let isHere = ownNames.contains { host.hasPrefix($0) }
        guard isHere, request.headers.first("Origin") == nil else {
            throw Problem(.forbidden, "a web page may not ask")
        }
    }

    private static let ownNames = ["127.", "localhost", "[::1]"]
    /// What proxies say of the peer they speak for.
    private static let forwarding = ["Forwarded", "X-Forwarded-For", "X-Real-IP"]
}
