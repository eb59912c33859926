import Testing
import Threading

@testable import HTTP

/// A server on a free port that echoes, or hands the exchange to the test.
final class TestServer: Sendable {
    let port: UInt16
    let server: HTTPServer
    /// Exchanges of requests to /async…, in order of arrival.
    let waiting: BoundedQueue<(HTTPRequest, Exchange)>

    init(
        _ listener: HTTPListener = HTTPListener(.tcp(host: "127.0.0.1", port: 0)), loops: Int = 1,
        trusted: TrustedPeers = TrustedPeers(), _ change: (inout HTTPLimits) -> Void = { _ in },
        errorResponse: @escaping @Sendable (HTTPProtocolError) -> HTTPResponse = { .problem($0) }
    ) throws {
        var limits = HTTPLimits()
        limits.drainIdleGrace = .zero
        change(&limits)
        let waiting = BoundedQueue<(HTTPRequest, Exchange)>(capacity: 1_000)
        self.waiting = waiting
        server = HTTPServer(
            listeners: [listener], loops: loops, limits: limits, trustedPeers: trusted,
            errorResponse: errorResponse
        ) { request, exchange in
            if request.path.hasPrefix("/async") {
                if !waiting.offer((request, exchange)) { exchange.respond(HTTPResponse(status: 503)) }
            } else {
                exchange.respond(TestServer.echo(request))
            }
        }
        port = try server.start().first?.port ?? 0
    }

    deinit { server.stop(within: .zero) }

    static func echo(_ request: HTTPRequest) -> HTTPResponse {
        let text = "\(request.method) \(request.path) \(request.body.count)"
        return HTTPResponse(status: 200, headers: [("Content-Type", "text/plain")], body: Array(text.utf8))
    }

    /// The next exchange that waits for the test.
    func next() throws -> (request: HTTPRequest, exchange: Exchange) {
        let (request, exchange) = try #require(waiting.take())
        return (request, exchange)
    }

    /// Waits until `condition` holds for the counters.
    func eventually(_ condition: (HTTPCounters) -> Bool) -> Bool {
        let end = MonotonicClock.nanoseconds + 10_000_000_000
        while MonotonicClock.nanoseconds < end {
            if condition(server.counters) { return true }
            _ = Latch(count: 1).wait(within: .milliseconds(1))
        }
        return false
    }
}

func get(_ path: String, _ fields: String = "") -> String {
    "GET \(path) HTTP/1.1\r\nHost: a\r\n\(fields)\r\n"
}

struct HTTPServerTests {
    @Test func `a connection answers one request after another`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        for number in 0..<3 {
            client.send(get("/\(number)"))
            let answer = try #require(client.response())
            #expect(answer.status == 200)
            #expect(answer.body == "GET /\(number) 0")
            #expect(!answer.closes)
            #expect(answer.head.contains("\r\nDate: "))
        }
        #expect(test.server.counters.connectionsAccepted == 1)
        #expect(test.server.counters.requests == 3)
    }

    @Test func `the request says who asks and when`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        let before = MonotonicClock.nanoseconds
        client.send(get("/async?a=b"))
        let (request, exchange) = try test.next()
        #expect(request.peer == "127.0.0.1")
        #expect(request.isLoopback)
        #expect(request.query == "a=b")
        #expect(request.receivedAt >= before)
        #expect(request.receivedAt <= MonotonicClock.nanoseconds)
        exchange.respond(HTTPResponse(status: 204))
        #expect(client.response()?.status == 204)
    }

    @Test func `pipelined requests are answered in order although the answers come in reverse`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send((0..<10).map { get($0 % 3 == 1 ? "/sync\($0)" : "/async\($0)") }.joined())
        var exchanges: [(request: HTTPRequest, exchange: Exchange)] = []
        while exchanges.count < 7 { exchanges.append(try test.next()) }
        for (request, exchange) in exchanges.reversed() {
            exchange.respond(TestServer.echo(request))
            exchange.respond(HTTPResponse(status: 500))
        }
        for number in 0..<10 {
            let body = try #require(client.response()).body
            #expect(body == "GET \(number % 3 == 1 ? "/sync" : "/async")\(number) 0")
        }
    }

    @Test func `more pipelined requests than the limit wait their turn and none is lost`() throws {
        let test = try TestServer { $0.pipelinedRequestsMax = 4 }
        let client = TestClient(port: test.port)
        client.send((0..<200).map { get($0 % 5 == 0 ? "/async\($0)" : "/\($0)") }.joined())
        for number in 0..<200 {
            if number % 5 == 0 {
                let (request, exchange) = try test.next()
                #expect(test.waiting.count <= 4)
                exchange.respond(TestServer.echo(request))
            }
            let body = try #require(client.response()).body
            #expect(body == "GET \(number % 5 == 0 ? "/async" : "/")\(number) 0")
        }
    }

    @Test func `answers of other threads reach connections of every loop`() throws {
        let test = try TestServer(loops: 2)
        let workers = try (0..<2).map { index in
            try NamedThread(name: "compute-\(index)") {
                while let (request, exchange) = test.waiting.take() {
                    exchange.respond(TestServer.echo(request))
                }
            }
        }
        let clients = (0..<20).map { _ in TestClient(port: test.port) }
        for round in 0..<50 {
            for client in clients { client.send(get("/async\(round)")) }
            for client in clients { #expect(client.response()?.body == "GET /async\(round) 0") }
        }
        test.waiting.close()
        for worker in workers { worker.join() }
        #expect(test.server.counters.requests == 1_000)
    }

    @Test func `fixed and chunked bodies arrive whole, also in pieces`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send("POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        client.send([UInt8](repeating: 7, count: 300_000))
        #expect(client.response()?.body == "POST /f 300000")
        client.send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in 0..<50 { client.send("3e8\r\n" + String(repeating: "x", count: 1_000) + "\r\n") }
        client.send("0\r\n\r\n")
        #expect(client.response()?.body == "POST /c 50000")
    }

    @Test func `a client that expects 100 Continue gets it before it sends the body`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        #expect(client.response()?.status == 100)
        client.send("body")
        #expect(client.response()?.body == "POST / 4")
        client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
        #expect(client.response()?.status == 413)
    }

    @Test func `HEAD gets the length without the body`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send("HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n" + get("/next"))
        let answer = try #require(client.response(hasBody: false))
        #expect(answer.head.contains("\r\nContent-Length: 9\r\n"))
        #expect(client.response()?.body == "GET /next 0")
    }

    @Test func `close is honoured, and HTTP 1.0 closes unless asked to stay`() throws {
        let test = try TestServer()
        var client = TestClient(port: test.port)
        client.send(get("/", "Connection: close\r\n"))
        #expect(try #require(client.response()).closes)
        #expect(client.closesSilently())
        client = TestClient(port: test.port)
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        #expect(try #require(client.response()).head.contains("\r\nConnection: keep-alive\r\n"))
        client.send("GET / HTTP/1.0\r\n\r\n")
        #expect(try #require(client.response()).closes)
        #expect(client.closesSilently())
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\r\n\r\n", 400), ("BAD\r\n\r\n", 400), ("GET / HTTP/3.0\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
        ("GET /" + String(repeating: "a", count: 100_000), 414),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400
        ),
    ])
    func `what breaks the protocol gets a problem document and the end`(text: String, status: Int) throws {
        let test = try TestServer { $0.lingerTimeout = .milliseconds(300) }
        let client = TestClient(port: test.port)
        client.send(get("/first") + text)
        client.send([UInt8](repeating: 0x41, count: 200_000))
        #expect(client.response()?.status == 200)
        let answer = try #require(client.response())
        #expect(answer.status == status)
        #expect(answer.isProblem)
        #expect(answer.closes)
        #expect(client.closesSilently())
        #expect(test.server.counters.protocolErrors == 1)
    }

    @Test func `an exchange that is dropped unanswered becomes 500`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send(get("/async"))
        _ = try test.next()
        #expect(client.response()?.status == 500)
        client.send(get("/again"))
        #expect(client.response()?.status == 200)
    }

    @Test func `an exchange without a connection hands its answer to the closure once`() {
        let statuses = Lock<[Int]>([])
        let exchange = Exchange { response in statuses.withLock { $0.append(response.status) } }
        exchange.respond(HTTPResponse(status: 200))
        exchange.respond(HTTPResponse(status: 201))
        #expect(statuses.withLock { $0 } == [200])
    }

    @Test func `a taken port and a host that is none are errors`() throws {
        let test = try TestServer()
        let taken = HTTPListener.Address.tcp(host: "127.0.0.1", port: test.port)
        let second = HTTPServer(listeners: [HTTPListener(taken)]) { _, _ in }
        #expect(throws: HTTPError.addressInUse(taken)) { try second.start() }
        let third = HTTPServer(listeners: [HTTPListener(.tcp(host: "not a host", port: 0))]) { _, _ in }
        #expect(throws: HTTPError.invalidHost("not a host")) { try third.start() }
        #expect(throws: HTTPError.alreadyStarted) { _ = try test.server.start() }
    }
}
