import Glibc
import Testing
import Threading

@testable import HTTP

/// A folder of its own for sockets, gone with the test.
private final class Folder {
    let path: String

    init() {
        var name = Array(("/tmp/recserver-http-" + String(repeating: "X", count: 6)).utf8CString)
        path = unsafe String(cString: mkdtemp(&name))
    }

    deinit {
        _ = unsafe unlink(file("s"))
        _ = unsafe rmdir(path)
    }

    func file(_ name: String) -> String { path + "/" + name }

    func mode(_ name: String) -> UInt32 {
        var status = stat()
        return unsafe lstat(file(name), &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    func exists(_ name: String) -> Bool { unsafe access(file(name), F_OK) == 0 }
}

/// A TCP socket that listens, as another process would hand it over.
private func listeningSocket() -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let status = unsafe withUnsafePointer(to: &address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    precondition(status == 0 && listen(descriptor, 16) == 0)
    return descriptor
}

struct HTTPListenerTests {
    private func server(_ listeners: [HTTPListener], loops: Int = 1) -> HTTPServer {
        var limits = HTTPLimits()
        limits.drainIdleGrace = .zero
        return HTTPServer(listeners: listeners, loops: loops, limits: limits) { request, exchange in
            let text = "\(request.peer) \(request.isLoopback)"
            exchange.respond(HTTPResponse(status: 200, body: Array(text.utf8)))
        }
    }

    @Test func `one server listens in several places, and every loop serves all of them`() throws {
        let folder = Folder()
        let path = folder.file("s")
        let http = server(
            [
                HTTPListener(.tcp(host: "localhost", port: 0)), HTTPListener(.unix(path: path, mode: 0o660)),
                HTTPListener(.inherited(descriptor: listeningSocket())),
            ], loops: 3)
        let bound = try http.start()
        #expect(bound.count == 3)
        #expect(bound[1] == .unix(path: path, mode: 0))
        #expect(folder.mode("s") == 0o660)
        for address in [bound[0], bound[2]] {
            let clients = (0..<8).map { _ in TestClient(port: address.port ?? 0) }
            for client in clients {
                client.send(get("/"))
                #expect(client.response()?.body == "127.0.0.1 true")
            }
        }
        for _ in 0..<8 {
            let client = try #require(TestClient(path: path))
            client.send(get("/"))
            #expect(client.response()?.body == "unix true")
        }
        #expect(http.stop(within: .seconds(5)))
        #expect(!folder.exists("s"))
    }

    @Test func `a socket file nobody listens on is replaced, one in use and another file are not`() throws {
        let folder = Folder()
        let address = HTTPListener.Address.unix(path: folder.file("s"), mode: 0o600)
        let first = server([HTTPListener(address)])
        try first.start()
        let second = server([HTTPListener(address)])
        #expect(throws: HTTPError.addressInUse(address)) { try second.start() }
        first.keepSocketFiles()
        first.stop(within: .seconds(5))
        #expect(folder.exists("s"))
        #expect(TestClient(path: folder.file("s")) == nil)
        let third = server([HTTPListener(address)])
        try third.start()
        #expect(TestClient(path: folder.file("s")) != nil)
        third.stop(within: .seconds(5))
        let file = unsafe fopen(folder.file("s"), "w")
        if let file = unsafe file { unsafe fclose(file) }
        let fourth = server([HTTPListener(address)])
        #expect(throws: HTTPError.addressInUse(address)) { try fourth.start() }
        #expect(folder.exists("s"))
    }

    @Test func `what is no listening socket, and a path too long for one, are refused`() throws {
        let plain = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(plain) }
        for address in [
            HTTPListener.Address.inherited(descriptor: plain), .inherited(descriptor: 1_000_000),
            .inherited(descriptors: []), .unix(path: "", mode: 0o600),
            .unix(path: "/tmp/" + String(repeating: "a", count: 103), mode: 0o600),
        ] {
            let http = server([HTTPListener(address)])
            #expect(throws: HTTPError.self) { try http.start() }
        }
    }

    @Test(arguments: [1, 2, 3])
    func `another server goes on with the sockets of one that ends, and no client is refused`(
        loops: Int
    ) throws {
        let folder = Folder()
        let path = folder.file("s")
        let old = server(
            [
                HTTPListener(.tcp(host: "127.0.0.1", port: 0)),
                HTTPListener(.unix(path: path, mode: 0o660)),
            ], loops: 2)
        let port = try #require(try old.start().first?.port)
        let handed = try old.duplicateListeners().map { descriptors -> HTTPListener in
            var listener = HTTPListener(.inherited(descriptors: descriptors))
            listener.removesSocketFile = true
            return listener
        }
        #expect(handed.count == 2)
        let new = server(handed, loops: loops)
        #expect(try new.start() == [.tcp(host: "127.0.0.1", port: port), .unix(path: path, mode: 0)])
        old.keepSocketFiles()
        #expect(old.stop(within: .seconds(5)))
        for _ in 0..<20 {
            let client = TestClient(port: port)
            client.send(get("/"))
            #expect(client.response()?.status == 200)
            let local = try #require(TestClient(path: path))
            local.send(get("/"))
            #expect(local.response()?.status == 200)
        }
        #expect(try old.duplicateListeners().isEmpty)
        new.stop(within: .seconds(5))
        #expect(!folder.exists("s"))
    }
}
