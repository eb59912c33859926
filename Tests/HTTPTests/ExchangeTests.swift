import Glibc
import Testing
import Threading

@testable import HTTP

/// Clients that leave, half leave, or are forgotten; and signals while requests are served.
struct ExchangeTests {
    private static func post(_ path: String, _ body: String) -> String {
        "POST \(path) HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// Returns when the only loop has seen everything that clients did before the call.
    private static func roundTrip(_ test: TestServer) {
        let other = TestClient(port: test.port)
        other.send(get("/other"))
        #expect(other.response()?.status == 200)
    }

    @Test func `a client that ends its sending side is there until it has its answer`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send(Self.post("/async", "body"))
        client.endSending()
        let (request, exchange) = try test.next()
        Self.roundTrip(test)
        #expect(!exchange.isClosed)
        exchange.respond(TestServer.echo(request))
        let answer = try #require(client.response())
        #expect(answer.status == 200)
        #expect(answer.body == "POST /async 4")
        #expect(client.closesSilently())
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `a client that ends its sending side while it waits is there too`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send(get("/first"))
        #expect(client.response()?.status == 200)
        client.send(Self.post("/async", "body"))
        let (request, exchange) = try test.next()
        client.endSending()
        Self.roundTrip(test)
        #expect(!exchange.isClosed)
        exchange.respond(TestServer.echo(request))
        #expect(client.response()?.body == "POST /async 4")
        #expect(client.closesSilently())
    }

    @Test func `pipelined requests before the end of the sending side are all answered`() throws {
        let test = try TestServer { $0.pipelinedRequestsMax = 2 }
        let client = TestClient(port: test.port)
        client.send(get("/0") + (1..<8).map { get("/async\($0)") }.joined() + "GET /half")
        client.endSending()
        #expect(client.response()?.body == "GET /0 0")
        for number in 1..<8 {
            let (request, exchange) = try test.next()
            Self.roundTrip(test)
            #expect(!exchange.isClosed)
            exchange.respond(TestServer.echo(request))
            #expect(client.response()?.body == "GET /async\(number) 0")
        }
        #expect(client.closesSilently())
    }

    @Test func `a half-closed client that asked to close gets its answer and the end`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send(get("/async", "Connection: close\r\n"))
        let (request, exchange) = try test.next()
        client.endSending()
        Self.roundTrip(test)
        #expect(!exchange.isClosed)
        exchange.respond(TestServer.echo(request))
        #expect(client.response()?.body == "GET /async 0")
        #expect(client.closesSilently())
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `an exchange knows that its client has reset the connection`() throws {
        let test = try TestServer()
        var client: TestClient? = TestClient(port: test.port)
        client?.send(get("/async"))
        let (_, exchange) = try test.next()
        #expect(!exchange.isClosed)
        client?.reset()
        client = nil
        #expect(test.eventually { _ in exchange.isClosed })
        exchange.respond(HTTPResponse(status: 200))
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `a client that closed in an orderly way is noticed when an answer comes back`() throws {
        let test = try TestServer()
        var client: TestClient? = TestClient(port: test.port)
        client?.send(get("/async1") + get("/async2"))
        let (_, first) = try test.next()
        let (_, second) = try test.next()
        client = nil
        Self.roundTrip(test)
        #expect(!second.isClosed)
        first.respond(HTTPResponse(status: 200))
        #expect(test.eventually { _ in second.isClosed })
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `an exchange that disappears is answered by the application on the loop`() throws {
        let seen = Lock<[String]>([])
        let test = try TestServer(errorResponse: { error in
            var name = [UInt8](repeating: 0, count: 16)
            let file = unsafe open("/proc/thread-self/comm", O_RDONLY)
            let count = unsafe read(file, &name, 16)
            _ = close(file)
            let thread = String(decoding: name.prefix(max(count - 1, 0)), as: UTF8.self)
            seen.withLock { $0.append("\(error) on \(thread)") }
            return HTTPResponse(
                status: 500, headers: [("X-Request-Id", "id-7")], body: Array("own words".utf8))
        })
        let client = TestClient(port: test.port)
        client.send(get("/async"))
        _ = try test.next()
        let answer = try #require(client.response())
        #expect(answer.status == 500)
        #expect(answer.body == "own words")
        #expect(answer.head.contains("\r\nX-Request-Id: id-7\r\n"))
        #expect(seen.withLock { $0 } == ["abandoned on loop-0"])
        client.send(get("/next"))
        #expect(client.response()?.status == 200)
    }

    @Test func `an exchange that disappears after its client makes no answer`() throws {
        let made = Lock(0)
        let test = try TestServer(errorResponse: { error in
            made.withLock { $0 += 1 }
            return .problem(error)
        })
        var client: TestClient? = TestClient(port: test.port)
        client?.send(get("/async"))
        var waiting: (request: HTTPRequest, exchange: Exchange)? = try test.next()
        client?.reset()
        client = nil
        #expect(test.eventually { $0.connectionsOpen == 0 })
        #expect(waiting?.exchange.isClosed == true)
        waiting = nil
        Self.roundTrip(test)
        #expect(made.withLock { $0 } == 0)
    }

    @Test func `a shower of signals disturbs no request`() async {
        await #expect(processExitsWith: .success) {
            try Signals.install()
            let test = try TestServer(loops: 2)
            let end = Latch(count: 1)
            let shower = try NamedThread(name: "shower") {
                while !end.wait(within: .microseconds(20)) { _ = kill(getpid(), SIGHUP) }
            }
            for round in 0..<50 {
                let client = TestClient(port: test.port)
                client.send(get("/async\(round)"))
                let (request, exchange) = try test.next()
                exchange.respond(TestServer.echo(request))
                #expect(client.response()?.body == "GET /async\(round) 0")
            }
            #expect(test.server.stop(within: .seconds(10)))
            end.countDown()
            shower.join()
            #expect(try Signals.wait(within: .zero) == .hangUp)
        }
    }
}
