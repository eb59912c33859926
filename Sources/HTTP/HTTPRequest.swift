/// The versions of HTTP that the server speaks.
public enum HTTPVersion: Sendable, Equatable, CaseIterable {
    case http10
    case http11
    case http2

    /// Its name in logs and traces: "HTTP/1.1".
    public var name: String {
        switch self {
        case .http10: "HTTP/1.0"
        case .http11: "HTTP/1.1"
        case .http2: "HTTP/2"
        }
    }
}

/// One complete request, as received.
public struct HTTPRequest: Sendable {
    /// The method, upper or lower case as sent.
    public var method: String
    /// The path as sent, percent-escapes untouched; begins with "/", or is "*".
    public var path: String
    /// What follows the first "?", as sent; nil without one.
    public var query: String?
    /// The header fields in their order.
    public var headers: HTTPHeaders
    /// The body after transfer decoding; empty when there is none.
    public var body: [UInt8]
    /// The numeric address of the peer, or `unix`; where that is a listed proxy, of whom it speaks for.
    public var peer: String
    /// True when the peer is on this machine: a Unix socket, 127.0.0.0/8 or ::1; never for a listed proxy.
    public var isLoopback: Bool
    /// When the head was complete: `MonotonicClock` nanoseconds.
    public var receivedAt: UInt64
    /// True when the connection stays open after the answer as far as the client is concerned.
    public var isKeepAlive: Bool
    /// The version it came in. In HTTP/2 names of header fields are lower-case, and `:authority` is Host.
    public var version: HTTPVersion
    /// True when it came over TLS.
    public var isSecure = false
    /// The certificate that the client has shown, verified; nil without one.
    public var clientCertificate: ClientCertificate?

    /// A request that no peer has sent: for tests and calls within the process.
    public init(
        method: String, path: String, query: String? = nil, headers: HTTPHeaders = HTTPHeaders([]),
        body: [UInt8] = [],
        peer: String = "127.0.0.1", isLoopback: Bool = true, receivedAt: UInt64 = 0, isKeepAlive: Bool = true,
        version: HTTPVersion = .http11
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.peer = peer
        self.isLoopback = isLoopback
        self.receivedAt = receivedAt
        self.isKeepAlive = isKeepAlive
        self.version = version
    }

    /// The body's media type without its parameters, in lower case; empty when the request does not say.
    public var mediaType: String {
        let type = (headers.first("Content-Type") ?? "").lowercased()
        return String(type.prefix { $0 != ";" && $0 != " " })
    }
}
