import Testing
import Threading

@testable import HTTP

/// Time-outs, limits of connections, clients that leave, and the end of the server.
struct HTTPServerEndsTests {
    @Test(arguments: [
        "GET / HTTP/1.1\r\nHo", "G", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12",
    ])
    func `half a request is answered 408 after its time`(text: String) throws {
        let test = try TestServer {
            $0.headTimeout = .milliseconds(80)
            $0.bodyTimeout = .milliseconds(80)
        }
        let client = TestClient(port: test.port)
        client.send(text)
        let answer = try #require(client.response())
        #expect(answer.status == 408)
        #expect(answer.closes)
        #expect(client.closesSilently())
        #expect(test.server.counters.timeouts == 1)
    }

    @Test func `a head that dribbles in does not gain time`() throws {
        let test = try TestServer { $0.headTimeout = .milliseconds(150) }
        let client = TestClient(port: test.port)
        client.send(get("/first"))
        #expect(client.response()?.status == 200)
        for byte in "GET /slow HTTP/1.1\r\nHost: a\r\nX: " {
            client.send(String(byte))
            _ = Latch(count: 1).wait(within: .milliseconds(10))
        }
        #expect(client.response()?.status == 408)
    }

    @Test func `a body slower than the least rate is answered 408`() throws {
        let test = try TestServer {
            $0.bodyRateGrace = .milliseconds(80)
            $0.bodyBytesPerSecondMin = 1_000_000
        }
        let client = TestClient(port: test.port)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + "1234567890")
        #expect(client.response()?.status == 408)
    }

    @Test func `a silent connection is closed silently`() throws {
        let test = try TestServer {
            $0.headTimeout = .milliseconds(50)
            $0.idleTimeout = .milliseconds(50)
        }
        #expect(TestClient(port: test.port).closesSilently())
        let client = TestClient(port: test.port)
        client.send(get("/"))
        #expect(client.response()?.status == 200)
        #expect(client.closesSilently())
        #expect(test.server.counters.timeouts == 0)
    }

    @Test func `a connection with a request in work is not idle`() throws {
        let test = try TestServer {
            $0.idleTimeout = .milliseconds(30)
            $0.headTimeout = .milliseconds(30)
        }
        let client = TestClient(port: test.port)
        client.send(get("/async"))
        let (request, exchange) = try test.next()
        _ = Latch(count: 1).wait(within: .milliseconds(150))
        #expect(!exchange.isClosed)
        exchange.respond(TestServer.echo(request))
        #expect(client.response()?.status == 200)
    }

    @Test func `a peer that does not read is cut off and the rest is not kept`() throws {
        let test = try TestServer { $0.writeTimeout = .milliseconds(100) }
        let client = TestClient(port: test.port, receiveBufferBytes: 4_096)
        client.send(get("/async"))
        let (_, exchange) = try test.next()
        exchange.respond(HTTPResponse(status: 200, body: [UInt8](repeating: 1, count: 32_000_000)))
        #expect(test.eventually { $0.timeouts == 1 && $0.connectionsOpen == 0 })
        #expect(exchange.isClosed)
    }

    @Test func `a large answer reaches a slow reader whole`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port, receiveBufferBytes: 4_096)
        client.send(get("/async"))
        let (_, exchange) = try test.next()
        exchange.respond(HTTPResponse(status: 200, body: [UInt8](repeating: 0x61, count: 4_000_000)))
        #expect(client.response()?.body.utf8.count == 4_000_000)
    }

    @Test func `the last request of a connection says so`() throws {
        let test = try TestServer { $0.requestsPerConnectionMax = 3 }
        let client = TestClient(port: test.port)
        for number in 1...3 {
            client.send(get("/"))
            #expect(try #require(client.response()).closes == (number == 3))
        }
        #expect(client.closesSilently())
    }

    @Test func `one connection too many is answered 503 and the others go on`() throws {
        let test = try TestServer {
            $0.connectionsMax = 3
            $0.lingerTimeout = .milliseconds(50)
        }
        var clients: [TestClient] = []
        for _ in 0..<3 {
            let client = TestClient(port: test.port)
            client.send(get("/"))
            #expect(client.response()?.status == 200)
            clients.append(client)
        }
        let refused = TestClient(port: test.port)
        let answer = try #require(refused.response())
        #expect(answer.status == 503)
        #expect(answer.isProblem)
        #expect(refused.closesSilently())
        #expect(test.server.counters.connectionsRefused == 1)
        for client in clients {
            client.send(get("/"))
            #expect(client.response()?.status == 200)
        }
        clients.removeLast()
        #expect(test.eventually { $0.connectionsOpen == 2 })
        let next = TestClient(port: test.port)
        next.send(get("/"))
        #expect(next.response()?.status == 200)
    }

    @Test func `draining closes idle connections, finishes what is in work and accepts no more`() throws {
        let test = try TestServer(loops: 2)
        let idle = TestClient(port: test.port)
        idle.send(get("/"))
        #expect(idle.response()?.status == 200)
        let busy = TestClient(port: test.port)
        busy.send(get("/async"))
        let (request, exchange) = try test.next()
        test.server.beginDrain()
        #expect(idle.closesSilently())
        let stopped = Latch(count: 1)
        let clean = Lock(false)
        let stopper = try NamedThread(name: "stopper") {
            let isClean = test.server.stop(within: .seconds(10))
            clean.withLock { $0 = isClean }
            stopped.countDown()
        }
        #expect(!stopped.wait(within: .milliseconds(50)))
        exchange.respond(TestServer.echo(request))
        let answer = try #require(busy.response())
        #expect(answer.status == 200)
        #expect(answer.closes)
        #expect(stopped.wait(within: .seconds(10)))
        stopper.join()
        #expect(clean.withLock { $0 })
        #expect(test.server.counters.connectionsOpen == 0)
    }

    @Test func `stopping cuts what does not end in time`() throws {
        let test = try TestServer()
        let client = TestClient(port: test.port)
        client.send(get("/async"))
        let (_, exchange) = try test.next()
        #expect(!test.server.stop(within: .milliseconds(20)))
        #expect(exchange.isClosed)
        #expect(client.closesSilently())
        exchange.respond(HTTPResponse(status: 200))
        #expect(test.server.stop(within: .zero))
    }

    @Test func `many connections come and go without leaving anything`() throws {
        let test = try TestServer(loops: 2)
        for _ in 0..<300 {
            let client = TestClient(port: test.port)
            client.send(get("/"))
            #expect(client.response()?.status == 200)
        }
        #expect(test.eventually { $0.connectionsOpen == 0 })
        #expect(test.server.counters.connectionsAccepted == 300)
    }
}
