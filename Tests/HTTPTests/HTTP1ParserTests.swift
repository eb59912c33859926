import TestSupport
import Testing

@testable import HTTP

struct HTTP1ParserTests {
    static let valid = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /a/b%20c?x=1&y=%C3%A9 HTTP/1.1\r\nHost: example.org:8080\r\nAccept: */*\r\nX-Empty:\r\n\r\n",
        "POST /r HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 11\r\n\r\nhello world",
        "POST /r HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n"
            + "5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
        "POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "1;a;b=c\r\nx\r\n000\r\nX-T: 1\r\nY:\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET http://example.org:80/p?q HTTP/1.1\r\nHost: other\r\n\r\n",
        "GET HTTPS://example.org HTTP/1.1\r\nHost: example.org\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc",
        "DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\nX: \t a\tb \t\r\nL: \u{e9}\r\n\r\n",
    ]

    private func parse(_ text: String) -> HTTPRequest? {
        let parser = HTTP1Parser(limits: HTTPLimits())
        let bytes = Array(text.utf8)
        guard case (.request, bytes.count) = parser.parse(bytes.span) else { return nil }
        return parser.takeRequest()
    }

    @Test func `the authority of an absolute target counts instead of Host`() throws {
        let request = try #require(parse("GET http://a.example:80/p HTTP/1.1\r\nX: y\r\nHost: other\r\n\r\n"))
        #expect(request.headers.first("Host") == "a.example:80")
        #expect(request.headers.first("X") == "y")
    }

    @Test func `a head that is repeated gives the same request, and one that is not its own`() throws {
        let parser = HTTP1Parser(limits: HTTPLimits())
        let once = "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
        let other = "GET /c?b HTTP/1.1\r\nHost: a\r\n\r\n"
        let body = "PUT /d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
        var events: [HTTP1Parser.Event] = []
        var story: [String] = []
        for text in [once, once, other, once, body + "x", body + "y", once] {
            let bytes = Array(text.utf8)
            let (event, consumed) = parser.parse(bytes.span)
            #expect(consumed == bytes.count)
            let request = try #require(parser.takeRequest())
            events.append(event)
            story.append(request.path + String(decoding: request.body, as: UTF8.self))
        }
        #expect(events == [.request, .repeated, .request, .request, .request, .request, .request])
        #expect(story == ["/a", "/a", "/c", "/a", "/dx", "/dy", "/a"])
    }

    @Test(arguments: valid)
    func `every prefix of a valid request is partial and no byte too far is read`(text: String) {
        let bytes = Array(text.utf8)
        for count in 0...bytes.count {
            GuardedBuffer(Array(bytes[0..<count])).withSpan { span in
                let parser = HTTP1Parser(limits: HTTPLimits())
                switch parser.parse(span) {
                case (.partial, _): #expect(count < bytes.count)
                case (.request, let consumed), (.repeated, let consumed):
                    #expect(count == bytes.count && consumed == count)
                case (.failure(let error), _): Issue.record("\(error) after \(count) bytes")
                }
            }
        }
    }

    @Test(arguments: valid)
    func `every split point gives the same request`(text: String) {
        let bytes = Array(text.utf8)
        let whole = HTTP1Property.story(bytes, step: bytes.count)
        for split in 1..<bytes.count {
            #expect(HTTP1Property.story(bytes, step: split) == whole)
        }
    }

    @Test func `pipelined requests are told in order however they are cut`() {
        let bytes = Self.valid.flatMap { Array($0.utf8) }
        let whole = HTTP1Property.story(bytes, step: bytes.count, limits: HTTPLimits())
        #expect(whole.count == Self.valid.count + 1)
        for step in [1, 2, 5, 19, 100] {
            #expect(HTTP1Property.story(bytes, step: step, limits: HTTPLimits()) == whole)
        }
    }

    @Test func `the parts of a request are what was sent`() throws {
        let request = try #require(parse(Self.valid[1]))
        #expect(request.method == "GET")
        #expect(request.path == "/a/b%20c")
        #expect(request.query == "x=1&y=%C3%A9")
        #expect(request.headers.first("HOST") == "example.org:8080")
        #expect(request.headers.first("x-empty") == "")
        #expect(request.headers.first("missing") == nil)
        #expect(request.headers.all.map(\.name) == ["Host", "Accept", "X-Empty"])
        #expect(request.isKeepAlive)
        #expect(parse(Self.valid[3])?.body == Array("hello0123456789".utf8))
        #expect(parse(Self.valid[5])?.path == "*")
        #expect(parse(Self.valid[5])?.isKeepAlive == false)
        #expect(parse(Self.valid[6])?.path == "/p")
        #expect(parse(Self.valid[7])?.path == "/")
        #expect(parse(Self.valid[8])?.isKeepAlive == false)
        #expect(parse(Self.valid[9])?.isKeepAlive == true)
        #expect(parse(Self.valid[11])?.headers.first("x") == "a\tb")
    }

    @Test func `a body that waits for 100 Continue says so once`() {
        let parser = HTTP1Parser(limits: HTTPLimits())
        let head = Array(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n".utf8)
        guard case (.partial, head.count) = parser.parse(head.span) else {
            Issue.record("not partial")
            return
        }
        #expect(parser.isInBody)
        let said = [parser.takeContinue(), parser.takeContinue()]
        #expect(said == [true, false])
    }

    private func end(_ text: String, _ change: (inout HTTPLimits) -> Void) -> String? {
        var limits = HTTPLimits()
        change(&limits)
        let bytes = Array(text.utf8)
        let story = HTTP1Property.story(bytes, step: bytes.count, limits: limits)
        #expect(HTTP1Property.story(bytes, step: 1, limits: limits) == story)
        return story.last
    }

    @Test func `each limit of the head holds at its value and refuses one more`() {
        func get(_ count: Int) -> String {
            "GET /\(String(repeating: "a", count: count - 14)) HTTP/1.1\r\nHost: a\r\n\r\n"
        }
        #expect(end(get(63)) { $0.requestLineBytesMax = 63 } == "end")
        #expect(end(get(64)) { $0.requestLineBytesMax = 63 } == "failure targetTooLong")
        let fields = "GET / HTTP/1.1\r\nHost: a\r\nX: 12345\r\n\r\n"  // 9 + 10 bytes of fields
        #expect(end(fields) { $0.headerBytesMax = 19 } == "end")
        #expect(end(fields) { $0.headerBytesMax = 18 } == "failure headersTooLarge")
        #expect(end(fields) { $0.headerCountMax = 2 } == "end")
        #expect(end(fields) { $0.headerCountMax = 1 } == "failure headersTooLarge")
    }

    @Test func `each limit of the body holds at its value and refuses one more`() {
        let fixed = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345"
        #expect(end(fixed) { $0.bodyBytesMax = 5 } == "end")
        #expect(end(fixed) { $0.bodyBytesMax = 4 } == "failure bodyTooLarge")
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        let five = head + "2\r\n12\r\n3\r\n345\r\n0\r\n\r\n"
        #expect(end(five) { $0.bodyBytesMax = 5 } == "end")
        #expect(end(five) { $0.bodyBytesMax = 4 } == "failure bodyTooLarge")
        for (path, expected) in [("/", "end"), ("/?q", "end"), ("/a", "failure bodyTooLarge")] {
            for body in [fixed, five] {
                let request = body.replacing("POST / ", with: "POST \(path) ")
                #expect(
                    end(request) {
                        $0.bodyBytesMax = 4
                        $0.bodyBytesMaxByPath = ["/": 5]
                    } == expected)
                #expect(
                    end(request) {
                        $0.bodyBytesMax = 5
                        $0.bodyBytesMaxByPath = ["/a": 4]
                    } == expected)
            }
        }
        let extended = head + "2;abc\r\n12\r\n0;d\r\n\r\n"
        #expect(end(extended) { $0.chunkExtensionBytesMax = 4 } == "end")
        #expect(end(extended) { $0.chunkExtensionBytesMax = 3 } == "failure malformedChunk")
        let trailed = head + "0\r\nA: b\r\nC: d\r\n\r\n"  // 12 bytes of trailers
        #expect(end(trailed) { $0.headerCountMax = 2 } == "end")
        #expect(end(trailed) { $0.headerBytesMax = 42 } == "end")
    }
}
