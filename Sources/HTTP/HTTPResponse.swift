/// An answer; the server adds Date, Content-Length and Connection.
public struct HTTPResponse: Sendable {
    /// 200…599; anything else is sent as 500.
    public var status: Int
    /// Fields to send in this order. A field whose name is no token, or whose value holds CR, LF, NUL or
    /// another control character, is left out; so are Date, Content-Length, Transfer-Encoding and Connection,
    /// which the server owns.
    public var headers: [(String, String)]
    /// The content; for HEAD only its length is sent.
    public var body: [UInt8]
    /// True to close the connection after this answer.
    public var closesConnection = false

    /// An answer with `status`, `headers` and `body`.
    public init(status: Int, headers: [(String, String)] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
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
