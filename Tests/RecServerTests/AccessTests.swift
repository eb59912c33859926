import Artifacts
import HTTP
import TestSupport
import Testing

@testable import RecServer

@Suite struct AccessTests {
    private static func ring(_ text: String) throws -> KeyRing { try KeyRing(json: Array(text.utf8)) }

    private static func entry(_ name: String, _ roles: [Role], _ rest: String = "") -> String {
        let list = roles.map { "\"\($0.rawValue)\"" }.joined(separator: ",")
        let digest = Digest.sha256(Array("key of \(name)".utf8))
        return #"{"name":"\#(name)","sha256":"\#(digest)","roles":[\#(list)]\#(rest)}"#
    }

    private static func request(
        _ headers: [(name: String, value: String)] = [], peer: String = "10.0.0.1", local: Bool = false
    ) -> HTTPRequest {
        HTTPRequest(
            method: "POST", path: "/recommend", headers: HTTPHeaders(headers), peer: peer, isLoopback: local)
    }

    /// The problem of a request, nil when it passes.
    private static func answer(_ access: Access, _ request: HTTPRequest, _ match: Router.Match = .recommend)
        -> Problem.Kind?
    {
        do throws(Problem) {
            try access.admit(request, to: match)
            return nil
        } catch {
            return error.kind
        }
    }

    private static func asAdministrator(_ access: Access, _ request: HTTPRequest) -> Problem.Kind? {
        do throws(Problem) {
            try access.admitAdministrator(request)
            return nil
        } catch {
            return error.kind
        }
    }

    @Test func `without keys reading is open and the admin listener takes a peer on this machine`() {
        let access = Access()
        #expect(Self.answer(access, Self.request()) == nil)
        #expect(Self.answer(access, Self.request([("X-Api-Key", "whatever")])) == nil)
        #expect(Self.asAdministrator(access, Self.request()) == .forbidden)
        #expect(Self.asAdministrator(access, Self.request(local: true)) == nil)
        #expect(access.refused(.peer) == 1)
    }

    @Test(arguments: [
        ("127.0.0.1:8080", true), ("127.9.9.9", true), ("localhost", true), ("LOCALHOST:1", true),
        ("a.localhost:80", true), ("[::1]", true), ("[::1]:8080", true), ("example.org", false),
        ("127.0.0.1.example.org", false), ("localhost.example.org", false), ("127.0.0", false),
        ("[::2]", false), ("[::1]x", false), ("10.0.0.1", false), ("", false), ("127.a.b.c", false),
    ])
    func `a name that leads here from elsewhere is not this machine's`(host: String, isOurs: Bool) {
        #expect(Access.isFromHere(Self.request([("Host", host)], local: true)) == isOurs)
        #expect(!Access.isFromHere(Self.request([("Host", host)])))
    }

    @Test func `web pages and proxies on this machine speak for others`() {
        #expect(Access.isFromHere(Self.request(local: true)))
        for name in ["Origin", "Forwarded", "X-Forwarded-For", "x-real-ip", "Via"] {
            #expect(!Access.isFromHere(Self.request([(name, "x")], local: true)), "\(name)")
        }
    }

    @Test func `a key opens what its roles say and nothing else`() throws {
        let entries = Role.allCases.map { Self.entry($0.rawValue, [$0]) } + [Self.entry("none", [])]
        let access = Access(ring: try Self.ring(#"{"keys":[\#(entries.joined(separator: ","))]}"#))
        for role in Role.allCases.map(\.rawValue) + ["none"] {
            let request = Self.request([("Authorization", "Bearer key of \(role)")], local: true)
            for match in [Router.Match.recommend, .similar(itemID: "a")] {
                #expect(Self.answer(access, request, match) == (role == "read" ? nil : .forbidden), "\(role)")
            }
            #expect(Self.asAdministrator(access, request) == (role == "admin" ? nil : .forbidden), "\(role)")
        }
        #expect(Self.asAdministrator(access, Self.request(local: true)) == .unauthorized)
        #expect(
            Self.asAdministrator(access, Self.request([("X-Api-Key", "key of admin")])) == .forbidden)
        for match in [Router.Match.livez, .readyz, .healthz, .version, .metrics, .openapi] {
            #expect(Self.answer(access, Self.request(), match) == nil)
        }
    }

    @Test func `a key comes in either field, once`() throws {
        let access = Access(
            ring: try Self.ring(
                #"{"keys":[\#(Self.entry("a", [.read])),\#(Self.entry("b", [.read]))]}"#))
        let (a, b) = ("key of a", "key of b")
        let table: [([(name: String, value: String)], Problem.Kind?)] = [
            ([("Authorization", "Bearer \(a)")], nil), ([("authorization", "bearer  \(a)")], nil),
            ([("X-API-KEY", a)], nil), ([("X-Api-Key", a), ("Authorization", "Bearer \(a)")], nil),
            ([("X-Api-Key", a), ("X-Api-Key", a)], nil),
            ([("X-Api-Key", a), ("Authorization", "Basic eDp5")], nil),
            ([], .unauthorized), ([("X-Api-Key", "")], .unauthorized),
            ([("Authorization", "Bearer")], .unauthorized), ([("Authorization", a)], .unauthorized),
            ([("Authorization", "Basic \(a)")], .unauthorized),
            ([("X-Api-Key", a), ("Authorization", "Bearer \(b)")], .unauthorized),
            ([("X-Api-Key", a), ("X-Api-Key", b)], .unauthorized),
            ([("Authorization", "Bearer \(a)"), ("Authorization", "Bearer x")], .unauthorized),
            ([("X-Api-Key", String(repeating: "x", count: 16_000))], .unauthorized),
        ]
        for (headers, expected) in table {
            #expect(Self.answer(access, Self.request(headers)) == expected, "\(headers)")
        }
    }

    @Test func `requests without a key are what the file says of anonymous`() throws {
        let access = Access(
            ring: try Self.ring(
                #"{"keys":[\#(Self.entry("a", [.admin]))],"anonymous":{"roles":["read"],"rate":1}}"#),
            now: { 0 })
        #expect(Self.answer(access, Self.request()) == nil)
        #expect(Self.answer(access, Self.request()) == .rateLimited)
        #expect(Self.answer(access, Self.request([("X-Api-Key", "wrong")])) == .unauthorized)
        #expect(Self.asAdministrator(access, Self.request(local: true)) == .unauthorized)
        #expect(Self.asAdministrator(access, Self.request([("X-Api-Key", "key of a")], local: true)) == nil)
    }

    private static func certificate(
        _ digit: UInt8, _ commonName: String? = nil, _ names: [String] = [], expires: Int64 = .max
    ) -> ClientCertificate {
        ClientCertificate(
            sha256: Array(repeating: digit, count: 32), commonName: commonName, alternativeNames: names,
            expires: expires)
    }

    private static let byCertificate = """
        {"keys":[\(entry("a", [.read]))],"certificates":[
        {"name":"one","sha256":"\(String(repeating: "01", count: 32))","roles":["read"],"rate":1},
        {"name":"two","common_name":"two","roles":["admin"]},
        {"name":"three","alternative_name":"URI:spiffe://x/three","roles":["users"],"expires":1000}]}
        """

    @Test func `a client certificate is a key`() throws {
        let clock = ManualClock(nanoseconds: 0)
        let access = Access(
            ring: try Self.ring(Self.byCertificate), now: { clock.nanoseconds },
            wallSeconds: { Double(clock.nanoseconds) / 1e9 })
        func ask(
            _ certificate: ClientCertificate?, _ match: Router.Match = .recommend, key: String? = nil
        ) -> Problem.Kind? {
            var request = Self.request(key.map { [("X-Api-Key", $0)] } ?? [])
            request.clientCertificate = certificate
            return Self.answer(access, request, match)
        }
        let one = Self.certificate(1, "two", ["URI:spiffe://x/three"])
        #expect(ask(one) == nil)
        #expect(ask(one) == .rateLimited)
        // A key that is brought counts alone, a wrong one too.
        #expect(ask(one, key: "key of a") == nil)
        #expect(ask(one, key: "key of b") == .unauthorized)
        #expect(ask(Self.certificate(2, "two")) == .forbidden)
        let three = Self.certificate(3, "two", ["DNS:x", "URI:spiffe://x/three"])
        #expect(ask(three, .user(.get, id: "u")) == nil)
        #expect(ask(three) == .forbidden)
        for stranger in [nil, Self.certificate(4), Self.certificate(4, "Two", ["URI:three"])] {
            #expect(ask(stranger) == .unauthorized)
        }
        clock.advance(by: .seconds(1000))
        #expect(ask(three, .user(.get, id: "u")) == .unauthorized)
        #expect(ask(one) == nil)
        clock.advance(by: .seconds(1000))
        #expect(ask(Self.certificate(1, expires: 2000)) == .unauthorized)
        #expect(access.refused(.expiredKey) == 2 && access.refused(.role) == 2)
        var administrator = Self.request(local: true)
        administrator.clientCertificate = Self.certificate(2, "two")
        #expect(Self.asAdministrator(access, administrator) == nil)
        #expect(access.callers.map(\.name) == ["a", "one", "two", "three"])
    }

    @Test func `a key ends when it expires`() throws {
        let clock = ManualClock(nanoseconds: 999_000_000_000)
        let access = Access(
            ring: try Self.ring(#"{"keys":[\#(Self.entry("a", [.read], #","expires":1000"#))]}"#),
            wallSeconds: { Double(clock.nanoseconds) / 1e9 })
        let request = Self.request([("X-Api-Key", "key of a")])
        #expect(Self.answer(access, request) == nil)
        clock.advance(by: .seconds(1))
        #expect(Self.answer(access, request) == .unauthorized)
        #expect(access.refused(.expiredKey) == 1)
    }

    @Test func `rates hold by key and by address, and probes have none`() throws {
        let clock = ManualClock()
        let access = Access(
            ring: try Self.ring(
                #"{"keys":[\#(Self.entry("a", [.read], #","rate":1,"burst":4"#)),\#(Self.entry("b", [.read]))]}"#
            ),
            ratePerAddress: 3, now: { clock.nanoseconds })
        func ask(_ key: String, _ peer: String) -> Problem.Kind? {
            Self.answer(access, Self.request([("X-Api-Key", "key of \(key)")], peer: peer))
        }
        #expect((0..<3).allSatisfy { _ in ask("a", "10.0.0.1") == nil })
        #expect(ask("a", "10.0.0.1") == .rateLimited)
        #expect(ask("b", "10.0.0.1") == .rateLimited)
        #expect(ask("a", "10.0.0.2") == nil)
        #expect(ask("a", "10.0.0.2") == .rateLimited)
        #expect(ask("b", "10.0.0.2") == nil)
        #expect((0..<100).allSatisfy { _ in Self.answer(access, Self.request(), .metrics) == nil })
        #expect(access.refused(.addressRate) == 2 && access.refused(.keyRate) == 1)
        clock.advance(by: .seconds(1))
        #expect(ask("a", "10.0.0.1") == nil)
        #expect(throws: Problem(.rateLimited, "too many with this key", retryAfter: 1)) {
            try access.admit(
                Self.request([("X-Api-Key", "key of a")], peer: "10.0.0.3"), to: .recommend)
        }
        let outcomes = access.callers.map { caller in
            [caller.counters.allowed, caller.counters.forbidden, caller.counters.limited].map(\.value)
        }
        #expect(outcomes == [[5, 0, 2], [1, 0, 0]])
    }
}
