import Glibc
import HTTP
import Testing
import Threading

@testable import RecServer

@Suite struct HandoverTests {
    private static let handover = Handover(
        parent: 7, channel: 8, stateLock: 9,
        listening: [
            .init(server: "main", address: "127.0.0.1:0", descriptors: [10, 11]),
            .init(server: "main", address: "unix:/a \"b\"=;", descriptors: [12]),
            .init(server: "admin", address: "127.0.0.1:0", descriptors: [13]),
        ])

    @Test func `what is written is read`() throws {
        let read = try #require(Handover(Self.handover.encoded))
        #expect(read.parent == 7 && read.channel == 8 && read.stateLock == 9)
        #expect(read.listening == Self.handover.listening)
        #expect(read.descriptors == [8, 9, 10, 11, 12, 13])
        let bare = Handover(parent: 1, channel: 2, stateLock: nil, listening: [])
        #expect(try #require(Handover(bare.encoded)).stateLock == nil)
    }

    @Test(arguments: [
        "", "{", "[]", "{}", #"{"parent":1}"#, #"{"parent":1,"channel":"2","listening":[]}"#,
        #"{"parent":1,"channel":99999999999,"listening":[]}"#,
        #"{"parent":1,"channel":2,"listening":[{"server":"main"}]}"#,
    ])
    func `what is malformed is nothing to go by`(text: String) {
        #expect(Handover(text) == nil)
        #expect(throws: Configuration.Invalid.self) { try Handover.found(text, parent: 1) }
    }

    @Test func `it counts only for the child of who wrote it, and only if all of it is there`() throws {
        #expect(try Handover.found(nil) == nil)
        #expect(try Handover.found(Self.handover.encoded, parent: 6) == nil)
        let (one, other) = try ProcessChannel.pair()
        let missing = Handover(parent: 7, channel: one.descriptor, stateLock: 1_000_000, listening: [])
        #expect(throws: Configuration.Invalid.self) { try Handover.found(missing.encoded, parent: 7) }
        let deaf = Handover(
            parent: 7, channel: one.descriptor, stateLock: nil,
            listening: [.init(server: "main", address: "a", descriptors: [other.descriptor])])
        #expect(throws: Configuration.Invalid.self) { try Handover.found(deaf.encoded, parent: 7) }
        let good = Handover(
            parent: 7, channel: one.descriptor, stateLock: other.descriptor, listening: [])
        #expect(try Handover.found(good.encoded, parent: 7)?.stateLock == other.descriptor)
    }

    @Test func `listeners find the sockets of their address, each once`() {
        let wanted = [
            HTTPListener(.tcp(host: "127.0.0.1", port: 0)), HTTPListener(.tcp(host: "127.0.0.1", port: 0)),
            HTTPListener(.unix(path: "/a \"b\"=;", mode: 0o600)),
        ]
        let adopted = Self.handover.adopted(wanted, of: "main")
        #expect(adopted[0].address == .inherited(descriptors: [10, 11]))
        #expect(adopted[1].address == wanted[1].address)
        #expect(adopted[2].address == .inherited(descriptors: [12]))
        // The file goes with the new process, as it would have with the old one.
        #expect(adopted[2].removesSocketFile)
        #expect(Self.handover.adopted(wanted, of: "other").map(\.address) == wanted.map(\.address))
    }

    @Test func `sockets that the service manager has opened stay what they are called`() {
        let first = HTTPListener(.inherited(descriptor: 3))
        let handover = Handover(
            parent: 1, channel: 2, stateLock: nil,
            listening: [
                .init(server: "main", address: Handover.name(of: first), descriptors: [20]),
                .init(server: "main", address: "127.0.0.1:80", descriptors: [21]),
                .init(server: "main", address: Handover.name(of: first), descriptors: [22]),
                .init(server: "admin", address: Handover.name(of: first), descriptors: [23]),
            ])
        var expected = InheritedSockets()
        expected.http = [20, 22]
        expected.admin = [23]
        #expect(handover.activated == expected)
        let listeners = expected.http.map { HTTPListener(.inherited(descriptor: $0)) }
        #expect(handover.adopted(listeners, of: "main").map(\.address) == listeners.map(\.address))
    }

    @Test func `the new process has this one's variables but for those that name this one`() {
        let environment = Self.handover.environment([
            "PATH=/bin", "WATCHDOG_USEC=5", "WATCHDOG_PID=3", "LISTEN_PID=3", "LISTEN_FDS=1",
            "RECSERVER_HANDOVER=old", "NOTIFY_SOCKET=@x",
        ])
        #expect(environment.dropLast() == ["PATH=/bin", "WATCHDOG_USEC=5", "NOTIFY_SOCKET=@x"])
        #expect(environment.last == "RECSERVER_HANDOVER=" + Self.handover.encoded)
    }
}
