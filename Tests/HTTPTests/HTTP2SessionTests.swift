import Synchronization
import Testing

@testable import HTTP

/// Frames → requests, and answers → frames.
struct HTTP2SessionTests {
    /// Every kind of frame that a good client may send.
    static var script: [UInt8] {
        let post = HTTP2Wire.block(
            HTTP2Wire.fields(
                "/p?q=1", method: "POST", [("content-length", "11"), ("cookie", "a=1"), ("cookie", "b=2")]))
        return HTTP2Wire.hello + HTTP2Wire.setting(4, 70_000) + HTTP2Wire.frame(1, 0, 1, Array(post[..<20]))
            + HTTP2Wire.frame(9, 0, 1, Array(post[20..<40])) + HTTP2Wire.frame(9, 4, 1, Array(post[40...]))
            + HTTP2Wire.data(1, Array("Hello".utf8)) + HTTP2Wire.ping() + HTTP2Wire.get(3, "/second")
            + HTTP2Wire.frame(2, 0, 5, [0, 0, 0, 0, 9])
            + HTTP2Wire.frame(0, 8, 1, [2] + Array(" Wor".utf8) + [0, 0])
            + HTTP2Wire.frame(0x77, 0xFF, 0, [1, 2, 3]) + HTTP2Wire.window(0, 1_000)
            + HTTP2Wire.data(1, Array("ld".utf8)) + HTTP2Wire.headers(1, [("trailer", "x")])
            + HTTP2Wire.headers(7, HTTP2Wire.fields("/gone", method: "PUT"), ends: false) + HTTP2Wire.reset(7)
            + HTTP2Wire.frame(
                1, 0x2D, 9, [1, 0, 0, 0, 0, 7] + HTTP2Wire.block(HTTP2Wire.fields("/padded")) + [0])
    }

    @Test func `a script of all frames gives its requests`() {
        let pair = HTTP2Pair(greets: false)
        pair.send(Self.script)
        #expect(
            pair.requests.map { HTTP2Property.describe($0) } == [
                "GET /second - host=a ", "POST /p q=1 host=a;content-length=11;cookie=a=1; b=2 Hello World",
                "GET /padded - host=a ",
            ])
        #expect(pair.requests.allSatisfy { $0.version == .http2 && $0.isKeepAlive })
        #expect(pair.reader.goAway == nil)
        #expect(
            pair.reader.frames.contains {
                $0.type == 6 && $0.flags == 1 && $0.payload == [1, 2, 3, 4, 5, 6, 7, 8]
            })
        #expect(pair.counters.streamsCancelled.load(ordering: .relaxed) == 1)
    }

    @Test func `any cut of the script tells the same story`() {
        let script = Self.script
        let whole = HTTP2Property.story(script, step: script.count)
        #expect(HTTP2Property.violation(script, steps: Array(1...40)) == nil)
        for cut in 1..<script.count {
            let pair = HTTP2Pair(greets: false) { $0 = HTTP2Property.limits }
            pair.session.receive(Array(script[..<cut]).span)
            pair.session.receive(Array(script[cut...]).span)
            pair.arrivals = pair.session.arrivals
            #expect(
                pair.requests.map { HTTP2Property.describe($0) } == Array(whole.prefix(pair.requests.count)))
            #expect(pair.requests.count == 3)
        }
    }

    @Test func `the answer has lower-case names, a date and a length, and nothing that breaks it`() {
        let pair = HTTP2Pair()
        pair.send(HTTP2Wire.get(1))
        pair.answer(
            HTTPResponse(
                status: 201,
                headers: [
                    ("X-A", " b "), ("Connection", "close"), ("Upgrade", "h2c"), ("X\r\nY", "1"),
                    ("Z", "1\r\n2"),
                    ("date", "never"), ("Transfer-Encoding", "chunked"), (":status", "500"),
                    ("Keep-Alive", "1"),
                ],
                body: Array("body".utf8)))
        let fields = pair.reader.frames.first { $0.type == 1 }?.fields.map { "\($0.name)=\($0.value)" }
        #expect(
            fields == [":status=201", "date=Sat, 21 Nov 2026 08:05:14 GMT", "x-a=b", "content-length=4"])
        #expect(pair.reader.body(1) == Array("body".utf8))
        #expect(pair.reader.hasEnded(1))
    }

    @Test func `HEAD, 204 and 304 have no content, and a status outside of the range is 500`() {
        let pair = HTTP2Pair()
        let body = Array("text".utf8)
        pair.send(
            HTTP2Wire.headers(1, HTTP2Wire.fields("/", method: "HEAD")), HTTP2Wire.get(3), HTTP2Wire.get(5),
            HTTP2Wire.get(7))
        for status in [200, 204, 304, 99] { pair.answer(HTTPResponse(status: status, body: body)) }
        let lengths = pair.reader.frames.filter { $0.type == 1 }.map { $0.value("content-length") }
        #expect(lengths == ["4", nil, nil, "4"])
        #expect([1, 3, 5, 7].map { pair.reader.body($0).count } == [0, 0, 0, 4])
        #expect([1, 3, 5, 7].map { pair.reader.status($0) } == [200, 204, 304, 500])
        #expect([1, 3, 5, 7].allSatisfy { pair.reader.hasEnded($0) })
    }

    @Test func `100 Continue comes once, before a body that waits for it, and not for one that is refused`() {
        let pair = HTTP2Pair()
        let expect = [("expect", "100-continue")]
        pair.send(HTTP2Wire.headers(1, HTTP2Wire.fields("/", method: "POST", expect), ends: false))
        #expect(pair.reader.status(1) == 100)
        pair.send(HTTP2Wire.data(1, [1, 2], ends: true))
        pair.answer()
        #expect(
            pair.reader.frames.filter { $0.type == 1 }.compactMap { $0.value(":status") } == ["100", "200"])
        pair.send(
            HTTP2Wire.headers(3, HTTP2Wire.fields("/", method: "POST", expect), ends: false)
                + HTTP2Wire.data(3, [1], ends: true))
        pair.answer()
        pair.send(
            HTTP2Wire.headers(
                5, HTTP2Wire.fields("/", method: "POST", expect + [("content-length", "99999999")]),
                ends: false))
        pair.answer()
        #expect(
            pair.reader.frames.filter { $0.type == 1 && $0.stream > 1 }.compactMap { $0.value(":status") }
                == ["200", "413"])
    }

    @Test(arguments: [
        ("GET", "/a/../b?c=%41&d#".replacing("#", with: ""), [], [UInt8]()),
        ("GET", "//x", [("x-a", "b"), ("x-a", "c")], []),
        ("POST", "/", [("content-length", "3")], [1, 2, 3]),
        ("DELETE", "/%2e%2E/?", [("te", "trailers")], []),
        ("OPTIONS", "*", [], []), ("GET", "/a/b?c=../%41&d", [], []), ("GET", "/%zz", [], []),
        ("GET", "/a\\b", [], []),
        ("get", "/lower", [("accept", "\u{e9}")], []), ("PATCH", "/?", [], [9]),
        ("GET", "*", [], []), ("GET", "/\u{e9}", [], []), ("CONNECT", "/", [], []),
        ("POST", "/", [("expect", "magic")], []),
        ("POST", "/", [("content-length", "1001")], []),
        ("POST", "/", [], [UInt8](repeating: 1, count: 1_001)),
        ("GET", "/" + String(repeating: "a", count: 250), [], []),
        ("VERYVERYVERYVERYVERYVERYVERYLONGMETHOD", "/", [], []),
        ("GET", "/", [("x", String(repeating: "a", count: 900))], []),
        ("GET", "/", (0..<13).map { ("x\($0)", "") }, []),
    ])
    func `the same request over HTTP 1 and 2 is the same, or refused alike`(
        method: String, path: String, fields: [(String, String)], body: [UInt8]
    ) throws {
        let limits = HTTP2Property.limits
        var text = "\(method) \(path) HTTP/1.1\r\nhost: a\r\n"
        for (name, value) in fields { text += "\(name): \(value)\r\n" }
        if !body.isEmpty, !fields.contains(where: { $0.0 == "content-length" }) {
            text += "transfer-encoding: chunked\r\n"
        }
        var bytes = Array((text + "\r\n").utf8)
        if text.contains("chunked") {
            bytes += Array("\(String(body.count, radix: 16))\r\n".utf8) + body + Array("\r\n0\r\n\r\n".utf8)
        } else {
            bytes += body
        }
        let parser = HTTP1Parser(limits: limits)
        let pair = HTTP2Pair { $0 = limits }
        pair.send(HTTP2Wire.headers(1, HTTP2Wire.fields(path, method: method, fields), ends: body.isEmpty))
        if !body.isEmpty { pair.send(HTTP2Wire.data(1, body, ends: true)) }
        switch parser.parse(bytes.span).event {
        case .request, .repeated:
            let request = try #require(parser.takeRequest())
            let expected = HTTP2Property.describe(request).replacing(";transfer-encoding=chunked", with: "")
            #expect(pair.requests.map { HTTP2Property.describe($0) } == [expected])
        case .failure(let error):
            // The library itself resets what its own rules already refuse.
            #expect(pair.refusals == [error] || pair.reader.reset(1) == 1, "\(error) \(pair.refusals)")
        case .partial: #expect(pair.refusals == [.bodyTooLarge])
        }
    }

    @Test(arguments: [
        ([(":authority", "")], HTTPProtocolError.malformedHost), ([(":authority", "a b")], .malformedHost),
        ([(":authority", "a"), ("host", "b")], .malformedHost), ([(":authority", "u@a")], .malformedHost),
        ([("host", "a/b")], .malformedHost),
    ])
    func `one host that is one`(hosts: [(String, String)], error: HTTPProtocolError) {
        let pair = HTTP2Pair()
        pair.send(HTTP2Wire.headers(1, [(":method", "GET"), (":path", "/"), (":scheme", "http")] + hosts))
        #expect(pair.refusals == [error] || pair.reader.reset(1) == 1)
        pair.send(
            HTTP2Wire.headers(
                3, [(":method", "GET"), (":path", "/"), (":scheme", "https"), ("host", "A:1")]),
            HTTP2Wire.headers(5, HTTP2Wire.fields("/", [("host", "A")])))
        #expect(pair.requests.map { $0.headers.first("Host") } == ["A:1", "a"])
        #expect(pair.requests.allSatisfy { $0.headers.count(of: "host") == 1 })
    }
}
