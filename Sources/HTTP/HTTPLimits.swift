/// Every maximum of the HTTP layer, with its default; checked when the server starts.
public struct HTTPLimits: Sendable, Equatable {
    /// Bytes of the request line without CR LF; more is 414.
    public var requestLineBytesMax = 8 * 1_024
    /// Bytes of all header fields with their line ends, and again of all trailers; more is 431.
    public var headerBytesMax = 16 * 1_024
    /// Header fields, and again trailers; more is 431.
    public var headerCountMax = 100
    /// Bytes of the body after decoding; more is 413.
    public var bodyBytesMax = 1_024 * 1_024
    /// The same for requests of one path, without its query and with percent-escapes as sent.
    public var bodyBytesMaxByPath: [String: Int] = [:]
    /// Bytes of chunk extensions in one body; more is 400.
    public var chunkExtensionBytesMax = 4 * 1_024

    /// From the connection to the end of its TLS handshake; then it is cut.
    public var handshakeTimeout = Duration.seconds(10)
    /// TLS handshakes of all loops that are under way; a connection that would begin one more is cut.
    public var handshakesMax = 1_000
    /// Bytes of a client until its handshake is done; then it is cut.
    public var handshakeBytesMax = 65_536

    /// From the connection, or the first byte of a later request, to the end of the head; then 408.
    public var headTimeout = Duration.seconds(10)
    /// From the end of the head to the end of the body; then 408.
    public var bodyTimeout = Duration.seconds(30)
    /// Slowest body accepted once `bodyRateGrace` has passed, bytes per second; then 408.
    public var bodyBytesPerSecondMin = 1_024
    /// How long a body may be slower than `bodyBytesPerSecondMin`.
    public var bodyRateGrace = Duration.seconds(5)
    /// From the first refused write until the peer has taken everything; then the connection is cut.
    public var writeTimeout = Duration.seconds(30)
    /// A connection without a request is closed after this time.
    public var idleTimeout = Duration.seconds(60)
    /// How long an idle connection may still bring a request once the server drains.
    public var drainIdleGrace = Duration.seconds(1)
    /// How long the rest of a refused request is read and dropped, so that the peer sees the answer.
    public var lingerTimeout = Duration.seconds(2)

    /// Requests on one connection; the last answer says `Connection: close`.
    public var requestsPerConnectionMax = 10_000
    /// Connections of all loops together. One more takes the place of the one that its loop has had idle
    /// longest; where none is idle it is answered 503 and closed.
    public var connectionsMax = 10_000
    /// Connections of one IPv4 address or IPv6 network of 64 bits; more are answered 503 and closed. Those of
    /// Unix sockets and of listed proxies do not count. 0 for no limit.
    public var connectionsPerAddressMax = 0
    /// A connection that has had no request for this time may be closed to make place for another.
    public var spareIdleTime = Duration.seconds(1)
    /// Requests of one connection that wait for their answers; then its socket is not read.
    public var pipelinedRequestsMax = 64
    /// Bytes of answers a peer has not taken; above this its socket is not read.
    public var unsentBytesMax = 256 * 1_024
    /// HTTP/2: streams of one connection that are open, or cancelled and still worked on; more are refused.
    public var http2StreamsMax = 100
    /// HTTP/2: bytes that a peer may send on one stream before it is let send more.
    public var http2StreamWindowBytes = 64 * 1_024
    /// HTTP/2: the same for all streams of a connection together.
    public var http2ConnectionWindowBytes = 1_024 * 1_024
    /// HTTP/2: bytes of incomplete bodies on one connection; above this only the oldest body goes on.
    public var http2BodyBytesMax = 8 * 1_024 * 1_024
    /// HTTP/2: frames on one connection that brought neither content nor the end of a request, less 10 for
    /// each answer and 1 for each 256 bytes of content sent; then GOAWAY and the end.
    public var http2IdleFramesMax = 1_000
    /// HTTP/2: streams on one connection that were reset, by the peer or for its faults, less 1 for each
    /// answer; then GOAWAY and the end.
    public var http2ResetsMax = 200
    /// Connections that wait in the kernel for each loop.
    public var backlog = 1_024

    /// The defaults.
    public init() {}

    /// Bytes of the body of a request of this path.
    func bodyBytesMax(path: String) -> Int {
        bodyBytesMaxByPath.isEmpty ? bodyBytesMax : bodyBytesMaxByPath[path] ?? bodyBytesMax
    }

    /// Throws the name of the first limit that makes no sense.
    func validate() throws(HTTPError) {
        let counts: [(String, Int, ClosedRange<Int>)] = [
            ("requestLineBytesMax", requestLineBytesMax, 16...1_048_576),
            ("headerBytesMax", headerBytesMax, 16...1_048_576),
            ("headerCountMax", headerCountMax, 1...10_000),
            ("bodyBytesMax", bodyBytesMax, 0...1_073_741_824),
            ("chunkExtensionBytesMax", chunkExtensionBytesMax, 0...1_048_576),
            ("bodyBytesPerSecondMin", bodyBytesPerSecondMin, 1...1_073_741_824),
            ("requestsPerConnectionMax", requestsPerConnectionMax, 1...1_000_000_000),
            ("connectionsMax", connectionsMax, 1...1_000_000),
            ("connectionsPerAddressMax", connectionsPerAddressMax, 0...1_000_000),
            ("pipelinedRequestsMax", pipelinedRequestsMax, 1...10_000),
            ("unsentBytesMax", unsentBytesMax, 1...1_073_741_824),
            ("http2StreamsMax", http2StreamsMax, 1...10_000),
            ("http2StreamWindowBytes", http2StreamWindowBytes, 65_535...1_073_741_824),
            ("http2ConnectionWindowBytes", http2ConnectionWindowBytes, 65_535...1_073_741_824),
            ("http2BodyBytesMax", http2BodyBytesMax, 0...1_073_741_824),
            ("http2IdleFramesMax", http2IdleFramesMax, 20...1_000_000_000),
            ("http2ResetsMax", http2ResetsMax, 1...1_000_000_000),
            ("backlog", backlog, 1...65_535), ("handshakesMax", handshakesMax, 1...1_000_000),
            ("handshakeBytesMax", handshakeBytesMax, 1_024...1_048_576),
        ]
        for limit in bodyBytesMaxByPath.values where !(0...1_073_741_824).contains(limit) {
            throw .invalidLimit("bodyBytesMaxByPath")
        }
        for (name, value, range) in counts where !range.contains(value) { throw .invalidLimit(name) }
        let durations: [(String, Duration, Duration)] = [
            ("headTimeout", headTimeout, .milliseconds(1)), ("bodyTimeout", bodyTimeout, .milliseconds(1)),
            ("bodyRateGrace", bodyRateGrace, .zero), ("writeTimeout", writeTimeout, .milliseconds(1)),
            ("idleTimeout", idleTimeout, .milliseconds(1)), ("drainIdleGrace", drainIdleGrace, .zero),
            ("lingerTimeout", lingerTimeout, .zero), ("spareIdleTime", spareIdleTime, .zero),
            ("handshakeTimeout", handshakeTimeout, .milliseconds(1)),
        ]
        for (name, value, least) in durations where value < least || value > .seconds(86_400) {
            throw .invalidLimit(name)
        }
    }
}
