import Testing
import Threading

@testable import HTTP

/// HTTP/2 between a client's socket and a handler.
struct HTTP2ServerTests {
    /// A client that reads frames.
    private struct Client {
        let socket: TestClient
        let reader = HTTP2Reader()

        init(_ test: TestServer, _ bytes: [UInt8] = HTTP2Wire.hello) {
            socket = TestClient(port: test.port)
            socket.send(bytes)
        }

        /// Reads until the condition holds; false when the connection ends before.
        func reads(until condition: () -> Bool) -> Bool {
            while !condition() {
                guard let bytes = socket.bytes() else { return condition() }
                reader.take(bytes)
            }
            return true
        }

        func text(_ stream: UInt32) -> String {
            _ = reads { reader.hasEnded(stream) }
            return String(decoding: reader.body(stream), as: UTF8.self)
        }
    }

    @Test func `one port speaks both versions, chosen by the first bytes however they come`() throws {
        let test = try TestServer()
        let old = TestClient(port: test.port)
        old.send(get("/old", "Upgrade: h2c\r\nConnection: Upgrade\r\n"))
        #expect(old.response()?.body == "GET /old 0")
        old.send("PRI")
        let client = Client(test, [])
        for byte in HTTP2Wire.hello + HTTP2Wire.get(1, "/new") { client.socket.send([byte]) }
        #expect(client.text(1) == "GET /new 0")
        old.send("SM /x HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(old.response()?.body == "PRISM /x 0")
        #expect(test.server.counters.http2.connections == 1)
        #expect(test.server.counters.http2.requests == 1)
        #expect(test.server.counters.requests == 3)
    }

    @Test func `answers come in the order they are made, and a lost one is 500`() throws {
        let test = try TestServer()
        let client = Client(test)
        client.socket.send(HTTP2Wire.get(1, "/async1") + HTTP2Wire.get(3, "/async3") + HTTP2Wire.get(5, "/5"))
        #expect(client.text(5) == "GET /5 0")
        let (first, _) = try test.next()
        let (second, exchange) = try test.next()
        #expect(first.path == "/async1")
        #expect(client.text(1).contains("500"))
        exchange.respond(TestServer.echo(second))
        #expect(client.text(3) == "GET /async3 0")
        #expect(client.reader.status(1) == 500)
    }

    @Test func `a cancelled request is known to be gone, its connection goes on`() throws {
        let test = try TestServer()
        let client = Client(test)
        client.socket.send(HTTP2Wire.get(1, "/async") + HTTP2Wire.get(3, "/async"))
        let (_, gone) = try test.next()
        let (request, kept) = try test.next()
        client.socket.send(HTTP2Wire.reset(1))
        #expect(test.eventually { $0.http2.streamsCancelled == 1 })
        #expect(gone.isClosed)
        #expect(!kept.isClosed)
        gone.respond(HTTPResponse(status: 200))
        kept.respond(TestServer.echo(request))
        #expect(client.text(3) == "GET /async 0")
        #expect(client.reader.status(1) == nil)
    }

    @Test func `a large answer reaches a reader with small windows whole`() throws {
        let test = try TestServer()
        let client = Client(test)
        client.socket.send(HTTP2Wire.get(1, "/async"))
        let (_, exchange) = try test.next()
        exchange.respond(HTTPResponse(status: 200, body: [UInt8](repeating: 0x61, count: 2_000_000)))
        var seen = 0
        while client.reads(until: { client.reader.body(1).count > seen }), !client.reader.hasEnded(1) {
            let count = UInt32(client.reader.body(1).count - seen)
            seen += Int(count)
            client.socket.send(HTTP2Wire.window(0, count) + HTTP2Wire.window(1, count))
        }
        #expect(client.reader.body(1).count == 2_000_000)
    }

    @Test func `draining serves what comes until the client knows, then closes`() throws {
        let test = try TestServer { $0.drainIdleGrace = .seconds(20) }
        let client = Client(test)
        client.socket.send(HTTP2Wire.get(1, "/async"))
        let (request, exchange) = try test.next()
        test.server.beginDrain()
        #expect(
            client.reads { client.reader.goAway != nil && client.reader.frames.contains { $0.type == 6 } })
        #expect(client.reader.goAway?.stream == 0x7FFF_FFFF)
        client.socket.send(
            HTTP2Wire.get(3, "/late") + HTTP2Wire.ping([UInt8](repeating: 0, count: 8), acknowledges: true))
        #expect(client.text(3) == "GET /late 0")
        #expect(client.reads { client.reader.goAway?.stream == 3 })
        exchange.respond(TestServer.echo(request))
        #expect(client.text(1) == "GET /async 0")
        #expect(client.socket.closesSilently())
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `a peer that only stops sending gets the answers that are due`() throws {
        let test = try TestServer()
        let client = Client(test)
        let open = HTTP2Wire.headers(3, HTTP2Wire.fields("/never", method: "POST"), ends: false)
        client.socket.send(HTTP2Wire.get(1, "/async") + open)
        client.socket.endSending()
        let (request, exchange) = try test.next()
        exchange.respond(TestServer.echo(request))
        #expect(client.text(1) == "GET /async 0")
        #expect(client.socket.closesSilently() || client.socket.hasEnded)
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `an idle connection is told before it is closed, a broken one why`() throws {
        let test = try TestServer {
            $0.idleTimeout = .milliseconds(60)
            $0.lingerTimeout = .milliseconds(50)
        }
        let idle = Client(test)
        idle.socket.send(HTTP2Wire.get(1))
        #expect(idle.text(1) == "GET / 0")
        #expect(idle.reads { idle.reader.goAway?.stream == 1 && idle.reader.goAway?.code == 0 })
        let broken = Client(test)
        broken.socket.send(HTTP2Wire.get(2))
        #expect(broken.reads { broken.reader.goAway?.code == 1 })
        #expect(test.eventually { $0.connectionsOpen == 0 && $0.timeouts == 0 })
    }

    @Test func `a peer that does not open its windows is cut off`() throws {
        let test = try TestServer { $0.writeTimeout = .milliseconds(80) }
        let client = Client(test)
        client.socket.send(HTTP2Wire.setting(4, 0) + HTTP2Wire.get(1))
        #expect(client.reads { client.reader.reset(1) == 8 })
        #expect(test.server.counters.timeouts == 1)
    }
}
