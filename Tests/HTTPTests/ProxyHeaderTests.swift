import TestSupport
import Testing

@testable import HTTP

/// A header of version 2 for a TCP connection from `source` (4 or 16 bytes).
func proxyHeader(
    command: UInt8 = 0x21, family: UInt8? = nil, source: [UInt8], additions: [UInt8] = []
) -> [UInt8] {
    let body = source + [UInt8](repeating: 9, count: source.count) + [0x30, 0x39, 0, 80] + additions
    return [0x0D, 0x0A, 0x0D, 0x0A, 0, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, command]
        + [family ?? (source.count == 4 ? 0x11 : 0x21), UInt8(body.count >> 8), UInt8(body.count & 0xFF)]
        + body
}

struct ProxyHeaderTests {
    static let v6: [UInt8] = [0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]
    static let v4: [UInt8] = [203, 0, 113, 9]

    @Test(
        arguments: [
            (proxyHeader(source: v4), "203.0.113.9"), (proxyHeader(source: v6), "2001:db8::5"),
            (proxyHeader(source: v4, additions: [0x20, 0, 2, 1, 2, 3]), "203.0.113.9"),
            (proxyHeader(source: v4, additions: [UInt8](repeating: 1, count: 4_084)), "203.0.113.9"),
            (proxyHeader(command: 0x20, source: v4), nil), (proxyHeader(family: 0, source: v4), nil),
            (proxyHeader(command: 0x20, family: 0, source: []).prefix(14) + [0, 0], nil),
            (proxyHeader(family: 0x31, source: [UInt8](repeating: 0x61, count: 108)), nil),
        ] as [([UInt8], String?)])
    func `a header is read however it is cut, and not a byte beyond`(bytes: [UInt8], source: String?) throws {
        #expect(ProxyProperty.violation(bytes) == nil)
        guard case .complete(let header, let consumed) = ProxyHeader.parse(bytes.span) else {
            Issue.record("\(ProxyHeader.parse(bytes.span))")
            return
        }
        #expect(header.source?.description == source)
        #expect(consumed == bytes.count)
        for count in 0..<bytes.count {
            #expect(ProxyHeader.parse(bytes.span.extracting(0..<count)) == .partial)
        }
        let longer = bytes + Array("GET / HTTP/1.1".utf8)
        #expect(ProxyHeader.parse(longer.span) == .complete(header, consumed: bytes.count))
    }

    @Test(arguments: [
        ("version 1", Array("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".utf8)),
        ("no header", Array("GET / HTTP/1.1\r\n".utf8)), ("TLS", [0x16, 3, 1]),
        ("version 1 in binary", proxyHeader(command: 0x11, source: v4)),
        ("unknown command", proxyHeader(command: 0x22, source: v4)),
        ("datagrams", proxyHeader(family: 0x12, source: v4)),
        ("unknown family", proxyHeader(family: 0x41, source: v4)),
        ("family without transport", proxyHeader(family: 0x10, source: v4)),
        ("too short for IPv4", Array(proxyHeader(source: v4).prefix(14)) + [0, 11]),
        ("too short for IPv6", proxyHeader(family: 0x21, source: v4)),
        ("too long", Array(proxyHeader(source: v4).prefix(14)) + [0x10, 1]),
    ])
    func `anything else is refused as soon as it shows`(what: String, bytes: [UInt8]) {
        #expect(ProxyProperty.violation(bytes) == nil)
        #expect(ProxyHeader.parse(bytes.span) == .malformed, "\(what)")
    }

    @Test func `every seed and every failure of the past holds the properties`() throws {
        let inputs = try FuzzInputs.all(of: "Proxy")
        #expect(inputs.count >= 4)
        for (name, bytes) in inputs { #expect(ProxyProperty.violation(bytes) == nil, "\(name)") }
    }
}

struct ProxyListenerTests {
    private func listener() -> HTTPListener {
        var listener = HTTPListener(.tcp(host: "127.0.0.1", port: 0))
        listener.takesProxyHeader = true
        return listener
    }

    private func trusted(_ ranges: String...) -> TrustedPeers {
        TrustedPeers(ranges: ranges.compactMap { AddressRange($0) })
    }

    @Test(arguments: [1, 7, 16, 28, 29, 40])
    func `requests behind a header are the client's, wherever the bytes are cut`(step: Int) throws {
        let test = try TestServer(listener(), trusted: trusted("127.0.0.1"))
        let client = TestClient(port: test.port)
        let bytes = proxyHeader(source: ProxyHeaderTests.v4) + Array((get("/async1") + get("/async2")).utf8)
        for start in stride(from: 0, to: bytes.count, by: step) {
            client.send(Array(bytes[start..<min(start + step, bytes.count)]))
        }
        for path in ["/async1", "/async2"] {
            let (request, exchange) = try test.next()
            #expect(request.path == path)
            #expect(request.peer == "203.0.113.9")
            #expect(!request.isLoopback)
            exchange.respond(HTTPResponse(status: 204))
            #expect(client.response()?.status == 204)
        }
    }

    @Test func `a proxy that speaks for itself or claims this machine has no rights of this machine`() throws
    {
        let test = try TestServer(listener(), trusted: trusted("127.0.0.0/8"))
        for header in [
            proxyHeader(command: 0x20, source: ProxyHeaderTests.v4), proxyHeader(source: [127, 0, 0, 1]),
        ] {
            let client = TestClient(port: test.port)
            client.send(header + Array(get("/async").utf8))
            let (request, exchange) = try test.next()
            #expect(request.peer == "127.0.0.1")
            #expect(!request.isLoopback)
            exchange.respond(HTTPResponse(status: 204))
            #expect(client.response()?.status == 204)
        }
    }

    @Test func `no header, a wrong one, and a peer that is not listed end the connection`() throws {
        let test = try TestServer(listener(), trusted: trusted("127.0.0.1"))
        for text in [get("/"), "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get("/")] {
            let client = TestClient(port: test.port)
            client.send(text)
            #expect(client.closesSilently())
        }
        #expect(test.eventually { $0.proxyHeadersRefused == 2 && $0.connectionsOpen == 0 })
        let strict = try TestServer(listener(), trusted: trusted("10.0.0.0/8"))
        let client = TestClient(port: strict.port)
        client.send(proxyHeader(source: ProxyHeaderTests.v4) + Array(get("/").utf8))
        #expect(client.closesSilently())
        #expect(strict.eventually { $0.proxyHeadersRefused == 1 && $0.requests == 0 })
    }

    @Test func `a header that does not end in its time ends the connection without a word`() throws {
        let test = try TestServer(listener(), trusted: trusted("127.0.0.1")) {
            $0.headTimeout = .milliseconds(50)
        }
        let client = TestClient(port: test.port)
        client.send(Array(proxyHeader(source: ProxyHeaderTests.v4).prefix(20)))
        #expect(client.closesSilently())
    }

    @Test func `X-Forwarded-For counts from listed proxies only`() throws {
        let fields =
            "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 127.0.0.2\r\nForwarded: for=1.1.1.1\r\n"
        for (isListed, field, peer) in [
            (true, fields, "203.0.113.9"), (false, fields, "127.0.0.1"),
            (true, "X-Forwarded-For: a\r\n", "127.0.0.1"), (true, "", "127.0.0.1"),
            (true, "X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1"),
        ] {
            let test = try TestServer(trusted: isListed ? trusted("127.0.0.0/8") : TrustedPeers())
            let client = TestClient(port: test.port)
            client.send(get("/async", field))
            let (request, exchange) = try test.next()
            #expect(request.peer == peer)
            #expect(request.isLoopback == !isListed)
            exchange.respond(HTTPResponse(status: 204))
            #expect(client.response()?.status == 204)
        }
    }

    @Test func `an address has its number of connections, and the next ones when those have gone`() throws {
        let test = try TestServer { $0.connectionsPerAddressMax = 2 }
        var clients = (0..<2).map { _ in TestClient(port: test.port) }
        for client in clients {
            client.send(get("/"))
            #expect(client.response()?.status == 200)
        }
        let third = TestClient(port: test.port)
        #expect(third.response()?.status == 503)
        #expect(test.eventually { $0.connectionsRefusedByAddress == 1 && $0.connectionsRefused == 1 })
        clients.removeLast()
        #expect(test.eventually { $0.connectionsOpen <= 1 })
        let fourth = TestClient(port: test.port)
        fourth.send(get("/"))
        #expect(fourth.response()?.status == 200)
    }

    @Test func `behind a listed proxy the client's address counts, not the proxy's`() throws {
        let test = try TestServer(listener(), trusted: trusted("127.0.0.1")) {
            $0.connectionsPerAddressMax = 1
        }
        let other: [UInt8] = [203, 0, 113, 10]
        let clients = [ProxyHeaderTests.v4, other, ProxyHeaderTests.v4].map { source in
            let client = TestClient(port: test.port)
            client.send(proxyHeader(source: source) + Array(get("/").utf8))
            return (client, client.response())
        }
        #expect(clients.map { $0.1?.status } == [200, 200, nil])
        #expect(test.eventually { $0.connectionsRefusedByAddress == 1 })
    }

    @Test func `when all places are taken the connection idle longest makes place`() throws {
        let test = try TestServer {
            $0.connectionsMax = 3
            $0.spareIdleTime = .zero
        }
        let busy = TestClient(port: test.port)
        busy.send(get("/async"))
        let (_, exchange) = try test.next()
        let idle = (0..<2).map { _ in TestClient(port: test.port) }
        for client in idle {
            client.send(get("/"))
            #expect(client.response()?.status == 200)
        }
        let new = TestClient(port: test.port)
        new.send(get("/"))
        #expect(new.response()?.status == 200)
        #expect(idle[0].closesSilently())
        #expect(test.server.counters.connectionsDisplaced == 1)
        exchange.respond(HTTPResponse(status: 200))
        #expect(busy.response()?.status == 200)
    }
}
