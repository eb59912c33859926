import COpenSSL
import Testing
import Threading

@testable import HTTP

/// A client over a socket: TLS in memory, bytes through `TestClient`.
final class TLSSocketClient {
    let tls: TLSTestClient
    let tcp: TestClient

    init(port: UInt16, _ options: TLSTestClient.Options = .init()) {
        tls = TLSTestClient(options)
        tcp = TestClient(port: port)
    }

    /// The handshake to its end; false when it fails.
    func connect() -> Bool {
        tcp.send(tls.advance())
        while !tls.isDone, !tls.failed, receive() {}
        return tls.isDone
    }

    func send(_ text: String) { tcp.send(tls.seal(Array(text.utf8))) }

    /// Takes what comes next; false at the end of the connection.
    func receive() -> Bool {
        let bytes = tcp.chunk()
        guard !bytes.isEmpty else { return false }
        tcp.send(tls.advance(bytes))
        return true
    }

    /// Everything until `text` has come or the connection ends.
    func received(until text: String) -> String {
        while true {
            let all = String(decoding: tls.received, as: UTF8.self)
            if all.contains(text) || !receive() { return all }
        }
    }
}

@Suite struct TLSServerTests {
    private let files: TLSTestFiles

    init() {
        files = TLSTestFiles()
        files.make("server")
    }

    private func server(
        _ change: (inout TLSContext.Settings) -> Void = { _ in },
        limits: (inout HTTPLimits) -> Void = { _ in }
    ) throws -> TestServer {
        var listener = HTTPListener(.tcp(host: "127.0.0.1", port: 0))
        listener.tls = try TLSContext(files.settings(change))
        return try TestServer(listener, limits)
    }

    @Test func `requests over TLS are answered, one after the other and pipelined`() throws {
        let test = try server()
        let client = TLSSocketClient(port: test.port)
        #expect(client.connect())
        client.send(get("/a"))
        #expect(client.received(until: "GET /a 0").contains("HTTP/1.1 200"))
        client.send(get("/b") + get("/c") + get("/d", "Connection: close\r\n"))
        #expect(client.received(until: "GET /d 0").contains("GET /c 0"))
        while client.receive() {}
        #expect(client.tls.isClosed, "the server says close_notify before it closes")
        #expect(test.eventually { $0.connectionsOpen == 0 })
        #expect(test.server.counters.tls.handshakes[.v13] == 1 && test.server.counters.requests == 4)
        #expect(test.server.counters.tls.failures.values.allSatisfy { $0 == 0 })
    }

    @Test func `a request says that it is secure and who the client is`() throws {
        files.make("shop")
        let test = try server {
            $0.clientAuthentication = .optional
            $0.clientAuthorityFile = files.path("ca.pem")
        }
        for (identity, name) in [(files.pair("shop"), "shop"), (nil, nil)] {
            let client = TLSSocketClient(port: test.port, .init(identity: identity))
            #expect(client.connect())
            client.send(get("/async"))
            let (request, exchange) = try test.next()
            #expect(request.isSecure && request.clientCertificate?.commonName == name)
            exchange.respond(HTTPResponse(status: 204))
            #expect(client.received(until: "\r\n\r\n").contains("204"))
        }
    }

    @Test func `every byte of a conversation may come alone`() throws {
        let test = try server()
        let client = TLSSocketClient(port: test.port)
        let hello = client.tls.advance()
        for byte in hello { client.tcp.send([byte]) }
        while !client.tls.isDone, client.receive() {}
        #expect(client.tls.isDone)
        for byte in client.tls.seal(Array(get("/x").utf8)) { client.tcp.send([byte]) }
        #expect(client.received(until: "GET /x 0").contains("200"))
    }

    @Test func `a large answer arrives whole, however slowly it is taken`() throws {
        let test = try server()
        let client = TLSSocketClient(port: test.port)
        #expect(client.connect())
        client.send(get("/async"))
        let (_, exchange) = try test.next()
        let body = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        exchange.respond(HTTPResponse(status: 200, headers: [], body: body))
        #expect(test.eventually { $0.bytesSent > 100_000 })
        while client.tls.received.count < body.count + 60, client.receive() {}
        #expect(client.tls.received.suffix(body.count) == body[...])
        client.send(get("/after"))
        #expect(client.received(until: "GET /after 0").hasSuffix("GET /after 0"))
    }

    @Test func `a client that closes its side still gets its answer`() throws {
        let test = try server()
        let client = TLSSocketClient(port: test.port)
        #expect(client.connect())
        client.send(get("/async"))
        client.tcp.send(client.tls.close())
        let (_, exchange) = try test.next()
        exchange.respond(HTTPResponse(status: 200, headers: [], body: Array("late".utf8)))
        #expect(client.received(until: "late").hasSuffix("late"))
        while client.receive() {}
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `HTTP 2 is spoken where the handshake has chosen it, and only there`() throws {
        let test = try server()
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"
        let chosen = TLSSocketClient(port: test.port, .init(protocols: ["h2", "http/1.1"]))
        #expect(chosen.connect())
        chosen.send(preface)
        while chosen.tls.received.count < 9, chosen.receive() {}
        #expect(chosen.tls.received[3] == 4, "SETTINGS")
        for protocols in [[], ["http/1.1"]] {
            let client = TLSSocketClient(port: test.port, .init(protocols: protocols))
            #expect(client.connect())
            client.send(preface)
            #expect(client.received(until: "\r\n\r\n").hasPrefix("HTTP/1.1 505"))
        }
    }

    @Test func `plain HTTP on a TLS port gets 400 in plain`() throws {
        let test = try server()
        let client = TestClient(port: test.port)
        client.send(get("/"))
        let answer = try #require(client.response())
        #expect(answer.status == 400 && answer.closes && answer.body.contains("TLS"))
        #expect(client.closesSilently())
        #expect(test.server.counters.tls.failures[.plain] == 1 && test.server.counters.requests == 0)
    }

    @Test func `garbage gets an alert and a close`() throws {
        let test = try server()
        let client = TestClient(port: test.port)
        client.send([22, 3, 1, 0, 5, 9, 9, 9, 9, 9])
        let answer = client.chunk()
        #expect(answer.first == 21)
        #expect(client.closesSilently())
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `a handshake has its time, with and without a first byte`() throws {
        let test = try server(limits: { $0.handshakeTimeout = .milliseconds(50) })
        let (silent, slow) = (TestClient(port: test.port), TestClient(port: test.port))
        slow.send(Array(TLSTestClient().advance().prefix(20)))
        #expect(silent.closesSilently() && slow.closesSilently())
        #expect(test.eventually { $0.tls.failures[.timeout] == 2 && $0.connectionsOpen == 0 })
    }

    @Test func `handshakes under way have a maximum, and places are given back`() throws {
        let test = try server(limits: { $0.handshakesMax = 2 })
        let hello = Array(TLSTestClient().advance().prefix(20))
        for round in 1...3 {
            let waiting = [TestClient(port: test.port), TestClient(port: test.port)]
            for client in waiting { client.send(hello) }
            #expect(test.eventually { $0.bytesReceived >= (2 * round + round - 1) * 20 })
            let third = TestClient(port: test.port)
            third.send(hello)
            #expect(third.closesSilently())
            #expect(test.eventually { $0.tls.failures[.limit] == round })
            for client in waiting { client.endSending() }
            #expect(test.eventually { $0.connectionsOpen == 0 })
        }
        let client = TLSSocketClient(port: test.port)
        #expect(client.connect())
        client.send(get("/"))
        #expect(client.received(until: "GET / 0").contains("200"))
        // One that is done has no place any more.
        let others = [TLSSocketClient(port: test.port), TLSSocketClient(port: test.port)]
        for other in others { #expect(other.connect()) }
    }

    @Test func `a first flight has a maximum`() throws {
        let test = try server(limits: { $0.handshakeBytesMax = 2_000 })
        let client = TestClient(port: test.port)
        // Records of a hello that promises 60,000 bytes.
        client.send([22, 3, 1, 0x40, 0, 1, 0, 0xEA, 0x60] + [UInt8](repeating: 0, count: 16_380))
        _ = client.rest()
        #expect(test.eventually { $0.tls.failures[.limit] == 1 || $0.tls.failures[.protocolError] == 1 })
        #expect(test.eventually { $0.connectionsOpen == 0 })
    }

    @Test func `draining ends idle sessions with a close_notify and answers what is under way`() throws {
        let test = try server()
        let (idle, busy) = (TLSSocketClient(port: test.port), TLSSocketClient(port: test.port))
        #expect(idle.connect() && busy.connect())
        busy.send(get("/async"))
        let (_, exchange) = try test.next()
        test.server.beginDrain()
        while idle.receive() {}
        #expect(idle.tls.isClosed)
        exchange.respond(HTTPResponse(status: 200, headers: [], body: Array("done".utf8)))
        #expect(busy.received(until: "done").contains("Connection: close"))
        #expect(test.server.stop(within: .seconds(10)))
    }

    @Test func `certificates change under connections that stay`() throws {
        let context = try TLSContext(files.settings())
        var listener = HTTPListener(.tcp(host: "127.0.0.1", port: 0))
        listener.tls = context
        let test = try TestServer(listener)
        let old = TLSSocketClient(port: test.port)
        #expect(old.connect())
        files.make("server")
        try context.reload()
        let new = TLSSocketClient(port: test.port)
        #expect(new.connect() && new.tls.serverSerial != old.tls.serverSerial)
        for client in [old, new] {
            client.send(get("/still"))
            #expect(client.received(until: "GET /still 0").contains("200"))
        }
    }

    @Test func `many handshakes at once are all answered`() throws {
        let test = try server()
        let clients = (0..<40).map { _ in TLSSocketClient(port: test.port) }
        for client in clients { client.tcp.send(client.tls.advance()) }
        for client in clients {
            while !client.tls.isDone, client.receive() {}
            client.send(get("/"))
        }
        for client in clients { #expect(client.received(until: "GET / 0").contains("200")) }
        #expect(test.server.counters.tls.handshakes[.v13] == 40)
    }
}
