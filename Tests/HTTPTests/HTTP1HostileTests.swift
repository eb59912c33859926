import TestSupport
import Testing

@testable import HTTP

/// Attacks and mistakes, each with the status it gets.
struct HTTP1HostileTests {
    static let requestLines: [(String, Int)] = [
        ("\n", 400), (" GET / HTTP/1.1", 400), ("\tGET / HTTP/1.1", 400), ("GET", 400), ("GET ", 400),
        ("GET /", 400), ("GET / ", 400), ("GET  / HTTP/1.1", 400), ("GET /  HTTP/1.1", 400),
        ("GET\t/\tHTTP/1.1", 400), ("GET / HTTP/1.1 ", 400), ("GET / HTTP/1.1\u{0}", 400),
        ("GET / http/1.1", 400), ("GET / HTTP/11", 400), ("GET / HTTP/1.1x", 400), ("GET / HTTP/1.01", 400),
        ("GET / HTTP/ 1.1", 400), ("GET / HTTPS/1.1", 400), ("GET / HTTP/a.b", 400), ("GET / HTTP/1,1", 400),
        ("GET / HTTP/0.9", 505), ("GET / HTTP/1.2", 505), ("GET / HTTP/2.0", 505), ("GET / HTTP/9.9", 505),
        ("PRI * HTTP/2.0", 505), ("G(T / HTTP/1.1", 400), ("G\u{0}T / HTTP/1.1", 400),
        ("G:T / HTTP/1.1", 400),
        ("\u{16}\u{3}\u{1} / HTTP/1.1", 400), ("CONNECT a:443 HTTP/1.1", 501),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1", 501), ("GET /a\u{0}b HTTP/1.1", 400),
        ("GET /a\u{7f} HTTP/1.1", 400), ("GET /\u{e9} HTTP/1.1", 400), ("GET /a#b HTTP/1.1", 400),
        ("GET /a\rb HTTP/1.1", 400), ("GET a HTTP/1.1", 400), ("GET a/b HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET ** HTTP/1.1", 400), ("GET ?a HTTP/1.1", 400), ("GET http:// HTTP/1.1", 400),
        ("GET http:///a HTTP/1.1", 400), ("GET http://u@h/ HTTP/1.1", 400), ("GET ftp://h/ HTTP/1.1", 400),
        ("GET /. HTTP/1.1", 400), ("GET /.. HTTP/1.1", 400), ("GET /a/./b HTTP/1.1", 400),
        ("GET /a/../b HTTP/1.1", 400), ("GET /a/.. HTTP/1.1", 400), ("GET http://h/../a HTTP/1.1", 400),
        ("GET /a\\b HTTP/1.1", 400), ("GET /%zz HTTP/1.1", 400), ("GET /a% HTTP/1.1", 400),
        ("GET /a%4 HTTP/1.1", 400), ("GET /a%4g?x HTTP/1.1", 400), ("GET /.a/..b/c. HTTP/1.1", 200),
        ("GET /%2e%2E/.../a HTTP/1.1", 200), ("GET /a?../.%zz HTTP/1.1", 200),
        ("GET http:/a HTTP/1.1", 400), ("GET http://h:x/ HTTP/1.1", 400), ("GET /\t HTTP/1.1", 400),
    ]

    static let hosts: [(String, Int)] = [
        ("", 400), ("Host: a\r\nHost: a", 400), ("Host: a\r\nhost: b", 400), ("Host:", 400),
        ("Host: a b", 400),
        ("Host: a, b", 400), ("Host: a/b", 400), ("Host: a@b", 400), ("Host: a:80:80", 400),
        ("Host: a:8x", 400),
        ("Host: [::1", 400), ("Host: ::1", 400), ("Host: [::1]x", 400), ("Host: []", 400), ("Host: :80", 400),
        ("Host : a", 400), ("Host\t: a", 400), (" Host: a", 400), ("Host: \u{e9}", 400),
        ("Host: a\u{0}", 400),
    ]

    static let fields: [(String, Int)] = [
        (" X: folded", 400), ("X: a\r\n\tfolded", 400), ("X", 400), (": x", 400), ("X Y: z", 400),
        ("X(: z", 400),
        ("X\u{0}: z", 400), ("X\u{e9}: z", 400), ("X: a\u{0}b", 400), ("X: a\u{1}b", 400),
        ("X: a\u{7f}b", 400),
        ("X: a\rb", 400), ("X: a\r\r", 400), ("X: a\u{b}b", 400), ("X: a\nY: b", 400), ("\u{feff}X: b", 400),
        ("Expect: 200-ok", 417), ("Expect:", 417), ("Expect: 100-continue, x", 417),
        ("Content-Length:", 400), ("Content-Length: +1", 400), ("Content-Length: -1", 400),
        ("Content-Length: 0x1", 400), ("Content-Length: 1 1", 400), ("Content-Length: 1,1", 400),
        ("Content-Length: 0, 0", 400), ("Content-Length: 1.0", 400), ("Content-Length: 1_0", 400),
        ("Content-Length: \u{661}", 400), ("Content-Length: \"1\"", 400), ("Content-Length: 1e1", 400),
        ("Content-Length: 18446744073709551616", 400), ("Content-Length: 9223372036854775808", 400),
        ("Content-Length: 99999999999999999999999999999999", 400),
        ("Content-Length: 999999999999999999", 413),
        ("Content-Length: 1048577", 413), ("Content-Length: 0\r\nContent-Length: 0", 400),
        ("Content-Length: 0\r\ncontent-length: 1", 400), ("Content-Length : 0", 400),
        ("Content-Length\u{b}: 0", 400), ("Content-Length: 0\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
        ("Transfer-Encoding: chunked, chunked", 400), ("Transfer-Encoding:", 400),
        ("Transfer-Encoding: identity", 400), ("Transfer-Encoding: gzip", 400),
        ("Transfer-Encoding: gzip, chunked", 501), ("Transfer-Encoding: chunked, gzip", 400),
        ("Transfer-Encoding: xchunked", 400), ("Transfer-Encoding: chunked;q=1", 400),
        ("Transfer-Encoding: \"chunked\"", 400), ("Transfer-Encoding: chunked\u{b}", 400),
        ("Transfer-Encoding : chunked", 400), ("Transfer-Encoding: chun ked", 400),
        ("Transfer-Encoding: ,chunked", 501), ("Transfer_Encoding: chunked", 200), ("X: a \t b", 200),
    ]

    static let chunks: [(String, Int)] = [
        ("\r\n", 400), ("g\r\n", 400), ("-1\r\n", 400), ("+1\r\nx\r\n0\r\n\r\n", 400),
        ("0x1\r\nx\r\n0\r\n\r\n", 400), (" 1\r\nx\r\n0\r\n\r\n", 400), ("1 \r\nx\r\n0\r\n\r\n", 400),
        ("1\nx\n0\n\n", 400), ("1\rx", 400), ("1\r\nxx\r\n0\r\n\r\n", 400), ("1\r\nx\n0\r\n\r\n", 400),
        ("1\r\nx\r0\r\n\r\n", 400), ("3\r\nx\r\n0\r\n\r\n", 400), ("1;a\nb\r\nx\r\n0\r\n\r\n", 400),
        ("1;a\rb\r\nx\r\n0\r\n\r\n", 400), ("1;\u{0}\r\nx\r\n0\r\n\r\n", 400), ("10000000000000000\r\n", 413),
        ("ffffffffffffffff\r\n", 413), ("fffffffffffffffff\r\n", 413), ("7fffffffffffffff\r\n", 413),
        ("8000000000000000\r\n", 413), ("100001\r\n", 413), ("1\r\nx\r\n100000\r\n", 413),
        ("00000000000000001\r\nx\r\n0\r\n\r\n", 400), ("0\r\n\n", 400), ("0\r\nX\r\n\r\n", 400),
        ("0\r\n X: y\r\n\r\n", 400), ("0\r\nX : y\r\n\r\n", 400), ("0\r\nX: y\n\r\n", 400),
        ("0\r\nX: \u{0}\r\n\r\n", 400), ("0\r\n: y\r\n\r\n", 400), ("0\r\n\rX", 400),
        ("1,\r\nx\r\n0\r\n\r\n", 400), ("0\r\nX: y\rz\r\n\r\n", 400), ("_1\r\nx\r\n0\r\n\r\n", 400),
        ("0\r\n" + String(repeating: "X: y\r\n", count: 101) + "\r\n", 431),
        ("0\r\nX: " + String(repeating: "y", count: 16_400) + "\r\n\r\n", 431),
        (
            String(repeating: "1;" + String(repeating: "a", count: 100) + "\r\nx\r\n", count: 50)
                + "0\r\n\r\n", 400
        ),
    ]

    /// The status of the first failure; 200 when a request is accepted, nil when more bytes are awaited.
    private func status(_ text: String) -> Int? {
        let bytes = Array(text.utf8)
        #expect(HTTP1Property.violation(bytes) == nil)
        return GuardedBuffer(bytes).withSpan { span in
            let parser = HTTP1Parser(limits: HTTPLimits())
            switch parser.parse(span).event {
            case .partial: return nil
            case .request, .repeated: return 200
            case .failure(let error): return error.status
            }
        }
    }

    @Test func `there are at least one hundred and fifty cases`() {
        #expect(Self.requestLines.count + Self.hosts.count + Self.fields.count + Self.chunks.count >= 150)
    }

    @Test(arguments: requestLines)
    func `a hostile request line gets its status`(line: String, expected: Int) {
        #expect(status(line + "\r\nHost: a\r\n\r\n") == expected)
    }

    @Test(arguments: hosts)
    func `a missing, repeated or broken host is refused`(field: String, expected: Int) {
        #expect(status("GET / HTTP/1.1\r\n" + (field.isEmpty ? "" : field + "\r\n") + "\r\n") == expected)
    }

    @Test(arguments: fields)
    func `a hostile header gets its status`(field: String, expected: Int) {
        #expect(status("POST / HTTP/1.1\r\nHost: a\r\n\(field)\r\n\r\n") == expected)
    }

    @Test(arguments: chunks)
    func `a hostile chunk gets its status`(chunk: String, expected: Int) {
        #expect(
            status("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk) == expected)
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\nHost: a\n\n", 400), ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("\n\nGET / HTTP/1.1", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400), ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\rHost: a\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /" + String(repeating: "a", count: 9_000), 414),
        ("GET / HTTP/1.1\r\nX: " + String(repeating: "a", count: 17_000), 431),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "X: y\r\n", count: 100) + "\r\n", 431),
    ])
    func `a hostile head gets its status`(text: String, expected: Int) {
        #expect(status(text) == expected)
    }

    @Test func `random damage to valid requests never makes the cuts differ`() {
        var random = SplitMix(state: 20_261_121)
        let interesting: [UInt8] = [0, 9, 10, 13, 32, 44, 48, 58, 59, 127, 128, 255]
        for _ in 0..<2_000 {
            var bytes = Array((HTTP1ParserTests.valid.randomElement(using: &random) ?? "").utf8)
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let position = Int.random(in: 0..<bytes.count, using: &random)
                bytes[position] = interesting.randomElement(using: &random) ?? 0
            }
            #expect(HTTP1Property.violation(bytes) == nil, "\(bytes)")
        }
    }
}

/// Steele, Lea & Flood 2014: a small generator with a fixed seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
