import Testing

@testable import HTTP

struct HTTP1WriterTests {
    private func written(_ response: HTTPResponse, _ form: HTTP1Writer.Form = .init()) -> String {
        var output: [UInt8] = []
        HTTP1Writer.append(response, form, date: Array("Date: D\r\n".utf8), to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    @Test func `an answer has date, its fields, length and body`() {
        let response = HTTPResponse(status: 404, headers: [("X-A", "b c")], body: Array("gone".utf8))
        #expect(
            written(response)
                == "HTTP/1.1 404 Not Found\r\nDate: D\r\nX-A: b c\r\nContent-Length: 4\r\n\r\ngone")
    }

    @Test func `HEAD has the length but no body`() {
        let text = written(HTTPResponse(status: 200, body: [97, 98]), .init(isHEAD: true))
        #expect(text == "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 2\r\n\r\n")
    }

    @Test func `an empty answer says length 0, and 204 says none`() {
        #expect(written(HTTPResponse(status: 200)).hasSuffix("Content-Length: 0\r\n\r\n"))
        #expect(written(HTTPResponse(status: 204, body: [1])) == "HTTP/1.1 204 No Content\r\nDate: D\r\n\r\n")
    }

    @Test func `persistence is said where it is not the default`() {
        let response = HTTPResponse(status: 200)
        #expect(written(response, .init(closes: true)).contains("\r\nConnection: close\r\n"))
        #expect(written(response, .init(isHTTP10: true)).contains("\r\nConnection: keep-alive\r\n"))
        #expect(!written(response).contains("Connection"))
    }

    @Test(arguments: [
        ("X", "a\r\nSet-Cookie: b"), ("X", "a\nb"), ("X", "a\rb"), ("X", "a\u{0}b"), ("X", "\u{7f}"),
        ("X\r\nY", "a"),
        ("", "a"), ("X Y", "a"), ("X:", "a"), ("Content-Length", "3"), ("content-length", "3"),
        ("Date", "now"),
        ("Transfer-Encoding", "chunked"), ("Connection", "close"), ("X\u{e9}", "a"),
    ])
    func `a field that could break the framing is left out`(name: String, value: String) {
        let plain = written(HTTPResponse(status: 200))
        #expect(written(HTTPResponse(status: 200, headers: [(name, value)])) == plain)
        #expect(HTTP1Property.writerViolation(Array((name + value).utf8)) == nil)
    }

    @Test(arguments: [-1, 0, 99, 100, 101, 199, 600, Int.max, Int.min])
    func `a status that is none is sent as 500`(status: Int) {
        #expect(written(HTTPResponse(status: status)).hasPrefix("HTTP/1.1 500 "))
    }

    // Expected by `date -u -d @SECONDS`.
    @Test(arguments: [
        (0, "Thu, 01 Jan 1970 00:00:00"), (784_111_777, "Sun, 06 Nov 1994 08:49:37"),
        (951_782_399, "Mon, 28 Feb 2000 23:59:59"), (951_827_696, "Tue, 29 Feb 2000 12:34:56"),
        (1_709_164_800, "Thu, 29 Feb 2024 00:00:00"), (4_107_542_399, "Sun, 28 Feb 2100 23:59:59"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00"), (253_402_300_799, "Fri, 31 Dec 9999 23:59:59"),
    ])
    func `the date has the form of RFC 9110`(seconds: Int, expected: String) {
        let field = HTTP1Writer.dateField(secondsSince1970: Int64(seconds))
        #expect(String(decoding: field, as: UTF8.self) == "Date: \(expected) GMT\r\n")
    }

    @Test(arguments: HTTPProtocolError.allCases)
    func `every error of the layer has a problem document`(error: HTTPProtocolError) {
        let response = HTTPResponse.problem(error)
        #expect(response.status == error.status)
        #expect(response.headers[0] == ("Content-Type", "application/problem+json"))
        #expect(String(decoding: response.body, as: UTF8.self).contains("\"status\":\(error.status),"))
    }
}

struct HTTPLimitsTests {
    @Test func `the defaults are valid and nonsense is named`() throws {
        try HTTPLimits().validate()
        var limits = HTTPLimits()
        limits.headerCountMax = 0
        #expect(throws: HTTPError.invalidLimit("headerCountMax")) { try limits.validate() }
        limits = HTTPLimits()
        limits.headTimeout = .zero
        #expect(throws: HTTPError.invalidLimit("headTimeout")) { try limits.validate() }
    }
}
