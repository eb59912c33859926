/// What can fail when the server is set up; the peer's faults are `HTTPProtocolError`.
public enum HTTPError: Error, Equatable, Sendable {
    /// The system refused `call` with this errno value.
    case system(call: String, errno: Int32)
    /// `host` is not a numeric IPv4 or IPv6 address, nor `localhost`.
    case invalidHost(String)
    /// Another process already listens on the address, or a file that is no socket has its name.
    case addressInUse(HTTPListener.Address)
    /// A Unix socket's path is empty or too long, or an inherited descriptor is no listening stream socket.
    case invalidListener(HTTPListener.Address)
    /// A limit is outside its range; names the limit.
    case invalidLimit(String)
    /// A server starts once.
    case alreadyStarted
    /// A certificate, a key or a list of authorities cannot be used; `file` is empty where none is named.
    case tls(file: String, reason: String)
}

/// Why the HTTP layer itself answers a request with an error; each but `abandoned` closes the connection.
///
/// RFC 9110 and RFC 9112 name the statuses; the texts hold nothing of the request.
public enum HTTPProtocolError: Error, Equatable, Sendable, CaseIterable {
    /// The request line is not `method SP target SP version CRLF`.
    case malformedRequestLine
    /// The request target is neither a path nor an absolute http(s) URI.
    case malformedTarget
    /// A line ends with a bare LF, or a CR stands alone.
    case malformedLineEnd
    /// A header field is not `token ":" value`, is folded, or holds control characters.
    case malformedHeader
    /// Plain HTTP where TLS is spoken.
    case plainOnTLS
    /// Host is missing, repeated, or not a host.
    case malformedHost
    /// Content-Length is repeated, not a plain number, or too large to be one.
    case malformedContentLength
    /// Content-Length and Transfer-Encoding together.
    case conflictingFraming
    /// Transfer-Encoding is repeated, in HTTP/1.0, or does not end in exactly one `chunked`.
    case malformedTransferEncoding
    /// The chunked body breaks its grammar or a limit of its framing.
    case malformedChunk
    /// The head, or the body, did not arrive in its time.
    case requestTimeout
    /// The body is larger than the limit.
    case bodyTooLarge
    /// The request line is longer than the limit.
    case targetTooLong
    /// An expectation other than `100-continue`.
    case unknownExpectation
    /// The header fields or trailers exceed their bytes or count.
    case headersTooLarge
    /// The answer was lost inside the server.
    case abandoned
    /// A transfer coding besides `chunked`.
    case unknownTransferCoding
    /// A method longer than any known one, or CONNECT.
    case unknownMethod
    /// No place for another connection.
    case tooManyConnections
    /// A version other than HTTP/1.0 and HTTP/1.1.
    case unknownVersion

    /// The status code of the answer.
    public var status: Int {
        switch self {
        case .malformedRequestLine, .malformedTarget, .malformedLineEnd, .malformedHeader, .malformedHost,
            .malformedContentLength, .conflictingFraming, .malformedTransferEncoding, .malformedChunk,
            .plainOnTLS:
            400
        case .requestTimeout: 408
        case .bodyTooLarge: 413
        case .targetTooLong: 414
        case .unknownExpectation: 417
        case .headersTooLarge: 431
        case .abandoned: 500
        case .unknownTransferCoding, .unknownMethod: 501
        case .tooManyConnections: 503
        case .unknownVersion: 505
        }
    }

    /// One sentence for the client.
    public var detail: String {
        switch self {
        case .malformedRequestLine: "The request line is malformed."
        case .malformedTarget: "The request target is malformed."
        case .malformedLineEnd: "Lines must end with CR LF."
        case .malformedHeader: "A header field is malformed."
        case .plainOnTLS: "This port speaks TLS: use https."
        case .malformedHost: "Exactly one valid Host header field is required."
        case .malformedContentLength: "Content-Length must be given once, as a plain number."
        case .conflictingFraming: "Content-Length and Transfer-Encoding must not appear together."
        case .malformedTransferEncoding: "Transfer-Encoding must be exactly chunked, once, in HTTP/1.1."
        case .malformedChunk: "The chunked body is malformed."
        case .requestTimeout: "The request did not arrive in time."
        case .bodyTooLarge: "The request body is too large."
        case .targetTooLong: "The request line is too long."
        case .unknownExpectation: "The expectation cannot be met."
        case .headersTooLarge: "The header fields are too large or too many."
        case .abandoned: "The request could not be answered."
        case .unknownTransferCoding: "The transfer coding is not implemented."
        case .unknownMethod: "The method is not implemented."
        case .tooManyConnections: "The server has too many connections."
        case .unknownVersion: "The HTTP version is not supported."
        }
    }
}
