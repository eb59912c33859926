import HTTP

/// Web pages of other origins that may read answers (the Fetch standard's CORS protocol); without
/// credentials, so never with cookies or client certificates.
struct CrossOrigins: Sendable, Equatable {
    /// Nil for every origin.
    private let allowed: Set<String>?

    /// Seconds for which a browser may remember what it was allowed.
    private static let maxAge = 7_200
    private static let requestFields =
        "Authorization, Content-Encoding, Content-Type, Prefer, X-Api-Key, X-Request-Id, X-User-Id, "
        + "traceparent, tracestate"
    private static let answerFields = "Preference-Applied, Retry-After, Server-Timing, X-Request-Id"

    /// `*`, or origins between commas; nil for an empty text.
    /// - Throws: the first that is no origin.
    init?(setting: String) throws(Configuration.Invalid) {
        let origins = setting.split(separator: ",").map { String($0.filter { $0 != " " }) }
        guard !origins.isEmpty else { return nil }
        if origins == ["*"] {
            allowed = nil
            return
        }
        for origin in origins where !Self.isOrigin(origin) {
            throw Configuration.Invalid(
                description: "cors_origins: \"\(origin)\" is no origin such as https://shop.example")
        }
        allowed = Set(origins)
    }

    /// `scheme://host` or `scheme://host:port`, as browsers write it: lower case and nothing behind.
    private static func isOrigin(_ text: String) -> Bool {
        guard let separator = text.firstRange(of: "://") else { return false }
        let (scheme, host) = (text[..<separator.lowerBound], text[separator.upperBound...])
        func holds(_ part: Substring, _ more: String) -> Bool {
            !part.isEmpty
                && part.utf8.allSatisfy { byte in
                    0x61...0x7A ~= byte || 0x30...0x39 ~= byte || more.utf8.contains(byte)
                }
        }
        return holds(scheme, "+-.") && holds(host, "-._:[]")
    }

    /// Whether an answer depends on the origin.
    var varies: Bool { allowed != nil }

    /// What a page of the request's origin is told with every answer.
    func headers(for request: HTTPRequest) -> [(String, String)] {
        guard let origin = permitted(request) else { return [] }
        return [
            ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", Self.answerFields),
        ]
    }

    /// What a browser is told that asks first; nothing where that is no such request.
    func preflight(for request: HTTPRequest, methods: [String]) -> [(String, String)] {
        guard permitted(request) != nil, request.headers.count(of: "Access-Control-Request-Method") == 1
        else {
            return []
        }
        return [
            ("Access-Control-Allow-Methods", methods.joined(separator: ", ")),
            ("Access-Control-Allow-Headers", Self.requestFields),
            ("Access-Control-Max-Age", String(Self.maxAge)),
        ]
    }

    /// The value of `Access-Control-Allow-Origin`; nil where the origin gets none.
    private func permitted(_ request: HTTPRequest) -> String? {
        guard request.headers.count(of: "Origin") == 1, let origin = request.headers.first("Origin") else {
            return nil
        }
        guard let allowed else { return "*" }
        return allowed.contains(origin) ? origin : nil
    }
}
