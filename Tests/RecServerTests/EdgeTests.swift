import HTTP
import Testing

@testable import RecServer

@Suite struct EdgeTests {
    private func request(_ fields: [(String, String)], method: String = "GET", body: [UInt8] = [])
        -> HTTPRequest
    {
        HTTPRequest(
            method: method, path: "/recommend",
            headers: HTTPHeaders(fields.map { (name: $0.0, value: $0.1) }),
            body: body)
    }

    private func fields(_ response: HTTPResponse) -> [String: String] {
        Dictionary(response.headers.map { ($0.0, $0.1) }, uniquingKeysWith: { $0 + ", " + $1 })
    }

    private let long = [UInt8](repeating: 0x20, count: 5_000)

    // MARK: - Origins

    @Test func `pages of listed origins may read answers, others learn nothing`() throws {
        let edge = Edge(origins: try CrossOrigins(setting: "https://shop.example, http://localhost:3000"))
        let plain = HTTPResponse(status: 200)
        for (origin, isAllowed) in [
            ("https://shop.example", true), ("http://localhost:3000", true),
            ("https://shop.example.evil", false),
            ("http://shop.example", false), ("https://shop.example:443", false), ("null", false),
            ("HTTPS://shop.example", false),
        ] {
            let answer = fields(edge.completed(plain, for: request([("Origin", origin)])))
            #expect(answer["Access-Control-Allow-Origin"] == (isAllowed ? origin : nil))
            #expect(answer["Vary"] == "Origin")
            #expect(answer["Access-Control-Allow-Credentials"] == nil)
        }
        let twice = request([("Origin", "https://shop.example"), ("Origin", "https://shop.example")])
        #expect(fields(edge.completed(plain, for: twice))["Access-Control-Allow-Origin"] == nil)
        #expect(fields(edge.completed(plain, for: request([]))) == ["Vary": "Origin"])
    }

    @Test func `with a star every origin may, and answers do not depend on it`() throws {
        let edge = Edge(origins: try CrossOrigins(setting: "*"))
        let answer = fields(edge.completed(HTTPResponse(status: 200), for: request([("Origin", "null")])))
        #expect(answer["Access-Control-Allow-Origin"] == "*")
        #expect(answer["Vary"] == nil)
    }

    @Test func `a browser that asks first gets the methods of the path`() throws {
        let origins = try #require(try CrossOrigins(setting: "https://shop.example"))
        let asked = [("Origin", "https://shop.example"), ("Access-Control-Request-Method", "POST")]
        let told = origins.preflight(for: request(asked, method: "OPTIONS"), methods: ["POST", "OPTIONS"])
        #expect(told.contains { $0 == ("Access-Control-Allow-Methods", "POST, OPTIONS") })
        #expect(origins.preflight(for: request([asked[0]]), methods: ["POST"]).isEmpty)
        #expect(origins.preflight(for: request([asked[1]]), methods: ["POST"]).isEmpty)
        let other = [("Origin", "https://other.example"), asked[1]]
        #expect(origins.preflight(for: request(other), methods: ["POST"]).isEmpty)
    }

    @Test(arguments: [
        "shop.example", "https://", "https://shop.example/", "https://Shop.example", "*, https://a.example",
        "https://a.example/path", "https://*.example", "null",
    ])
    func `what is no origin is refused at the start`(setting: String) {
        #expect(throws: Configuration.Invalid.self) { try CrossOrigins(setting: setting) }
    }

    @Test func `without a setting nothing is said`() throws {
        #expect(try CrossOrigins(setting: "") == nil)
        #expect(Edge().completed(HTTPResponse(status: 200), for: request([("Origin", "a")])).headers.isEmpty)
    }

    // MARK: - Compression

    @Test func `answers are compressed from the least size on where the client wants that`() throws {
        let edge = Edge(compression: Compression(least: 1_000))
        let response = HTTPResponse(status: 200, body: long)
        let gzip = edge.completed(response, for: request([("Accept-Encoding", "gzip")]))
        #expect(fields(gzip) == ["Content-Encoding": "gzip", "Vary": "Accept-Encoding"])
        #expect(try GzipDecoder.decode(gzip.body, limit: 10_000) == long)
        let zstd = edge.completed(response, for: request([("Accept-Encoding", "gzip, zstd")]))
        #expect(fields(zstd)["Content-Encoding"] == "zstd")
        let plain = edge.completed(response, for: request([("Accept-Encoding", "br, identity;q=0")]))
        #expect(fields(plain) == ["Vary": "Accept-Encoding"] && plain.body == long)
        #expect(edge.completed(response, for: request([])).body == long)
        let short = HTTPResponse(status: 200, body: Array(long.prefix(999)))
        #expect(edge.completed(short, for: request([("Accept-Encoding", "gzip")])).headers.isEmpty)
        let kept = edge.completed(response, for: request([("Accept-Encoding", "gzip")]), compresses: false)
        #expect(kept.body == long)
        #expect(edge.compression?.bytesBefore.value == 10_000)
    }

    @Test func `a content kept in every coding is sent in the one that is wanted, and coded once`() throws {
        let edge = Edge(compression: Compression(least: 1_000))
        let content = CodedContent(long)
        for (wanted, coding) in [("gzip", "gzip"), ("*", "zstd"), ("br", nil)] {
            let request = request([("Accept-Encoding", wanted)])
            let answer = edge.completed(content.response(for: request, headers: []), for: request)
            #expect(fields(answer)["Content-Encoding"] == coding)
            #expect(fields(answer)["Vary"] == "Accept-Encoding")
            #expect((answer.body == long) == (coding == nil))
        }
        #expect(edge.compression?.bytesBefore.value == 0)
    }

    private func job(_ body: [UInt8], _ coding: [(String, String)], _ match: Router.Match = .recommend) -> Job
    {
        Job(
            request: request(coding, method: "POST", body: body), match: match,
            context: RequestContext(requestID: "r"), exchange: Exchange { _ in }, queuedAt: 0)
    }

    @Test func `a body in gzip is inflated within the limit of its endpoint`() throws {
        let edge = Edge(bodyMax: 4_999, eventsBodyMax: 5_000)
        let body = try #require(ContentEncoder().encode(long, as: .gzip))
        let gzip = [("Content-Encoding", "gzip")]
        #expect(throws: Problem(.contentTooLarge, "the body is too large once it is inflated")) {
            try edge.inflated(job(body, gzip))
        }
        #expect(try edge.inflated(job(body, gzip, .events)).request.body == long)
        #expect(
            try edge.inflated(job(body, [("Content-Encoding", " X-GZIP ")], .events)).request.body == long)
        #expect(throws: Problem(.badRequest, "the body is not the gzip that it says it is")) {
            try edge.inflated(job(Array(body.dropLast()), gzip, .events))
        }
        #expect(try edge.inflated(job(body, [])).request.body == body)
        #expect(try edge.inflated(job(body, gzip, .livez)).request.body == body)
        #expect(try edge.inflated(job([], gzip)).request.body == [])
    }

    @Test(arguments: [
        ([], true), (["gzip"], true), (["identity"], true), (["identity, gzip"], true), (["x-gzip"], true),
        (["br"], false), (["zstd"], false), (["gzip, gzip"], false), (["gzip", "gzip"], false), ([""], false),
        (["gzip, br"], false), (["deflate"], false),
    ])
    func `a body in any other coding is refused`(codings: [String], isUnderstood: Bool) {
        let fields = codings.map { ("Content-Encoding", $0) }
        let refusal = { try RequestCoding.check(request(fields, body: [1]), allowsGzip: true) }
        if isUnderstood {
            #expect(throws: Never.self, performing: refusal)
        } else {
            #expect(throws: Problem.self, performing: refusal)
        }
    }

    // MARK: - Listeners

    private func listeners(_ arguments: String..., inherited: InheritedSockets = InheritedSockets()) throws
        -> Listeners
    {
        try Listeners(try Configuration(arguments: arguments), inherited)
    }

    @Test func `listeners are the addresses that are set, and what is inherited takes their place`() throws {
        #expect(try listeners().main.map(\.address) == [.tcp(host: "127.0.0.1", port: 8080)])
        #expect(try listeners().admin.isEmpty)
        let socket = try listeners("--port", "-1", "--unix-socket", "/run/s", "--admin-port", "1")
        #expect(socket.main.map(\.address) == [.unix(path: "/run/s", mode: 0o660)])
        #expect(socket.admin.map(\.address) == [.tcp(host: "127.0.0.1", port: 1)])
        var inherited = InheritedSockets()
        inherited.http = [3, 5]
        inherited.admin = [4]
        let taken = try listeners("--unix-socket", "s", "--port", "1", inherited: inherited)
        #expect(
            taken.main.map(\.address)
                == [.inherited(descriptor: 3), .inherited(descriptor: 5), .unix(path: "s", mode: 0o660)])
        #expect(taken.admin.map(\.address) == [.inherited(descriptor: 4)])
        #expect(throws: Configuration.Invalid.self) { try listeners("--port", "-1") }
    }

    @Test func `only TCP takes PROXY headers, and only from proxies that are named`() throws {
        #expect(throws: Configuration.Invalid.self) { try listeners("--proxy-protocol", "required") }
        let proxied = try listeners(
            "--proxy-protocol", "required", "--trusted-proxies", "10.0.0.0/8, ::1,unix", "--unix-socket", "s")
        #expect(proxied.main.map(\.takesProxyHeader) == [true, false])
        #expect(proxied.trusted.ranges.count == 2 && proxied.trusted.includesUnix)
        for wrong in ["10.0.0.1/8", "proxy.example", "*", "10.0.0.0/8;::1"] {
            #expect(throws: Configuration.Invalid.self) { try listeners("--trusted-proxies", wrong) }
        }
    }

    @Test func `descriptors of systemd are sorted by name, and what is odd ends the start`() throws {
        func inherited(_ environment: [String: String]) throws -> InheritedSockets {
            try InheritedSockets(environment: { environment[$0] }, processID: 7)
        }
        #expect(try inherited([:]) == InheritedSockets())
        #expect(try inherited(["LISTEN_PID": "8", "LISTEN_FDS": "x"]) == InheritedSockets())
        #expect(try inherited(["LISTEN_PID": "7", "LISTEN_FDS": "2"]).http == [3, 4])
        let named = try inherited([
            "LISTEN_PID": "7", "LISTEN_FDS": "4", "LISTEN_FDNAMES": "http:admin:https:http",
        ])
        #expect(named.http == [3, 6] && named.admin == [4] && named.https == [5])
        for wrong in [
            ["LISTEN_FDS": "0"], ["LISTEN_FDS": "-1"], ["LISTEN_FDS": "1000"], [:],
            ["LISTEN_FDS": "1", "LISTEN_FDNAMES": "http:http"], ["LISTEN_FDS": "1", "LISTEN_FDNAMES": "ftp"],
        ] {
            let wrong = wrong.merging(["LISTEN_PID": "7"]) { own, _ in own }
            #expect(throws: Configuration.Invalid.self, "\(wrong)") { try inherited(wrong) }
        }
    }
}
