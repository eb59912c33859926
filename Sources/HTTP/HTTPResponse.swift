/// Header fields that go out with many answers, checked and put in their form on the wire once.
public final class HTTPFields: Sendable {
    /// Names and values, in their order.
    public let list: [(String, String)]
    /// Whole lines of HTTP/1.
    let lines: [UInt8]

    /// The fields fit to send among these, as in `HTTPResponse.headers`.
    public init(_ fields: [(String, String)]) {
        list = fields.filter { HTTP1Writer.isAllowed($0.0, $0.1) }
        lines = Array(list.map { "\($0.0): \($0.1)\r\n" }.joined().utf8)
    }
}

/// An answer; the server adds Date, Content-Length and Connection.
public struct HTTPResponse: Sendable {
    /// 200…599; anything else is sent as 500.
    public var status: Int
    /// Fields to send before all others; nil for none.
    public var fields: HTTPFields?
    /// What `X-Request-Id` says, after `fields`; nil to leave it out.
    public var requestID: String?
    /// Fields to send in this order. A field whose name is no token, or whose value holds CR, LF, NUL or
    /// another control character, is left out; so are Date, Content-Length, Transfer-Encoding and Connection,
    /// which the server owns.
    public var headers: [(String, String)]
    /// The content; for HEAD only its length is sent.
    public var body: [UInt8]
    /// True to close the connection after this answer.
    public var closesConnection = false

    /// An answer with `status`, `headers` and `body`.
    public init(
        status: Int, fields: HTTPFields? = nil, requestID: String? = nil, headers: [(String, String)] = [],
        body: [UInt8] = []
    ) {
        self.status = status
        self.fields = fields
        self.requestID = requestID
        self.headers = headers
        self.body = body
    }

    /// All fields in the order in which they are sent, unfit ones included.
    public var allHeaders: [(String, String)] {
        (fields?.list ?? []) + (requestID.map { [(HTTP1Writer.requestIDName, $0)] } ?? []) + headers
    }

    /// The minimal problem document (RFC 9457) for an error of the HTTP layer.
    public static func problem(_ error: HTTPProtocolError) -> HTTPResponse {
        let title = HTTP1Writer.reasonPhrase(error.status)
        let text =
            #"{"type":"about:blank","title":"\#(title)","status":\#(error.status),"#
            + #""detail":"\#(error.detail)"}"#
        return HTTPResponse(
            status: error.status, headers: [("Content-Type", "application/problem+json")],
            body: Array(text.utf8))
    }
}
