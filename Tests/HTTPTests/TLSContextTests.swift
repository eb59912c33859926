import COpenSSL
import Glibc
import TestSupport
import Testing

@testable import HTTP

/// Files, tickets and client certificates.
@Suite struct TLSContextTests {
    private let files: TLSTestFiles

    init() {
        files = TLSTestFiles()
        files.make("server")
    }

    // MARK: Files

    private func reason(_ change: (inout TLSContext.Settings) -> Void) -> (file: String, reason: String)? {
        do throws(HTTPError) {
            _ = try TLSContext(files.settings(change))
            return nil
        } catch {
            guard case .tls(let file, let reason) = error else { return nil }
            return (file, reason)
        }
    }

    @Test func `a file that cannot serve is named with the reason`() throws {
        files.make("other")
        files.make("rsa", .rsa)
        files.write("empty.pem", text: "")
        files.write("text.pem", text: "no certificate\n")
        files.write(
            "broken.pem", text: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        files.write(
            "secret.key",
            text: "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n")
        let server = files.identity("server")
        let table: [(certificate: String, key: String, named: String, reason: String)] = [
            (files.path("none.pem"), server.keyFile, "none.pem", "No such file"),
            (server.certificateFile, files.path("none.key"), "none.key", "No such file"),
            (files.path("empty.pem"), server.keyFile, "empty.pem", "no usable certificate"),
            (files.path("text.pem"), server.keyFile, "text.pem", "no usable certificate"),
            (files.path("broken.pem"), server.keyFile, "broken.pem", "no usable certificate"),
            (files.folder, server.keyFile, "", "no usable certificate"),
            (server.certificateFile, server.certificateFile, "server.pem", "no usable private key"),
            (server.certificateFile, files.path("secret.key"), "secret.key", "no usable private key"),
            (server.certificateFile, files.path("other.key"), "other.key", "not that of"),
            (server.certificateFile, files.path("rsa.key"), "rsa.key", "not that of"),
        ]
        for (certificate, key, named, expected) in table {
            let found = reason { $0.identities = [.init(certificateFile: certificate, keyFile: key)] }
            #expect(found?.file.hasSuffix(named) == true, "\(certificate) \(key) \(found as Any)")
            #expect(found?.reason.contains(expected) == true, "\(certificate) \(key) \(found as Any)")
        }
        #expect(reason { $0.identities = [] }?.reason == "no certificate is named")
        #expect(
            reason { $0.identities.append(files.identity("other")) }?.reason.contains("of its kind") == true)
        #expect(reason { $0.clientAuthentication = .required }?.reason.contains("authorities") == true)
        let authorities = reason {
            $0.clientAuthentication = .optional
            $0.clientAuthorityFile = files.path("text.pem")
        }
        #expect(authorities?.file == files.path("text.pem"))
        #expect(reason { _ in } == nil)
    }

    @Test func `the first certificate to expire is told, also when it has`() throws {
        files.make("old", .rsa, days: -1)
        let context = try TLSContext(files.settings { $0.identities.append(files.identity("old")) })
        let seconds = Int64(time(nil))
        #expect(abs(context.expires - (seconds - 86_400)) < 3_600)
        #expect(abs(try TLSContext(files.settings()).expires - (seconds + 10 * 86_400)) < 3_600)
    }

    @Test func `a reading again is for new sessions, and one that fails changes nothing`() throws {
        let context = try TLSContext(files.settings())
        let before = try TLSPair(context, .init(authority: files.path("ca.pem")))
        before.shakeHands()
        let serial = before.client.serverSerial
        files.make("server")
        try context.reload()
        let after = try TLSPair(context, .init(authority: files.path("ca.pem")))
        after.shakeHands()
        #expect(after.state == .open && after.client.serverSerial != serial)
        files.write("server.key", text: "")
        #expect(throws: HTTPError.self) { try context.reload() }
        let still = try TLSPair(context)
        still.shakeHands()
        #expect(still.client.serverSerial == after.client.serverSerial)
        // Sessions outlive the reading they began with.
        #expect(before.client.advance(before.send([1, 2, 3])) == [] && before.client.received == [1, 2, 3])
    }

    // MARK: Tickets

    /// A session that a client may bring again; tickets of TLS 1.3 come after the handshake.
    private func session(
        _ context: TLSContext, _ version: Int32, _ options: TLSTestClient.Options = .init()
    ) throws -> TLSTestClient.Session {
        var options = options
        options.maximum = version
        let pair = try TLSPair(context, options)
        pair.shakeHands()
        #expect(pair.state == .open)
        return pair.client.session
    }

    private func resumes(
        _ context: TLSContext, _ session: TLSTestClient.Session, _ version: Int32,
        _ options: TLSTestClient.Options = .init()
    ) throws -> Bool {
        var options = options
        (options.maximum, options.session) = (version, session)
        let pair = try TLSPair(context, options)
        pair.shakeHands()
        #expect(pair.state == .open && pair.agreement?.isResumed == pair.client.isResumed)
        return pair.client.isResumed
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `a ticket resumes under the key that made it and under the next one, not longer`(version: Int32)
        throws
    {
        let clock = ManualClock()
        let context = try TLSContext(
            files.settings { $0.ticketRotation = .seconds(100) }, now: { clock.nanoseconds })
        let first = try session(context, version)
        #expect(try resumes(context, first, version))
        clock.advance(by: .seconds(99))
        let second = try session(context, version)
        #expect(try resumes(context, first, version))
        clock.advance(by: .seconds(2))
        #expect(try resumes(context, first, version) && resumes(context, second, version))
        // Certificates that are read again leave the tickets as they are.
        files.make("server")
        try context.reload()
        #expect(try resumes(context, first, version))
        clock.advance(by: .seconds(98))
        #expect(try resumes(context, second, version))
        clock.advance(by: .seconds(2))
        #expect(try !resumes(context, first, version) && !resumes(context, second, version))
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `an old ticket is replaced by a new one`(version: Int32) throws {
        let clock = ManualClock()
        let context = try TLSContext(
            files.settings { $0.ticketRotation = .seconds(100) }, now: { clock.nanoseconds })
        var session = try session(context, version)
        for _ in 0..<5 {
            clock.advance(by: .seconds(90))
            var options = TLSTestClient.Options(maximum: version)
            options.session = session
            let pair = try TLSPair(context, options)
            pair.shakeHands()
            #expect(pair.client.isResumed)
            session = pair.client.session
        }
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `without tickets, and between servers, nothing is resumed`(version: Int32) throws {
        let none = try TLSContext(files.settings { $0.ticketRotation = .zero })
        #expect(try !resumes(none, session(none, version), version))
        let (one, other) = (try TLSContext(files.settings()), try TLSContext(files.settings()))
        #expect(try !resumes(other, session(one, version), version))
    }

    @Test func `a key of tickets is made when it is needed and forgotten after two intervals`() {
        let clock = ManualClock()
        let numbers = Counter()
        let tickets = TLSTickets(interval: 10, now: { clock.nanoseconds }) { count in
            Array(repeating: UInt8(numbers.next()), count: count)
        }
        let first = tickets.sealing()
        #expect(first.name.count == 16 && first.cipherKey.count == 32 && first.macKey.count == 32)
        #expect(tickets.sealing() == first)
        #expect(tickets.opening(name: first.name)?.isOld == false)
        clock.advance(by: .nanoseconds(10))
        #expect(tickets.opening(name: first.name)?.isOld == true)
        let second = tickets.sealing()
        #expect(second.name != first.name && second.cipherKey != first.cipherKey)
        #expect(tickets.opening(name: first.name)?.key == first)
        clock.advance(by: .nanoseconds(10))
        #expect(tickets.opening(name: first.name) == nil && tickets.opening(name: second.name)?.isOld == true)
        // After a pause longer than both intervals nothing is left.
        clock.advance(by: .nanoseconds(100))
        #expect(tickets.opening(name: second.name) == nil)
    }

    // MARK: Client certificates

    private func mutual(
        _ kind: TLSContext.Settings.ClientAuthentication, _ authority: String = "ca.pem"
    ) throws -> TLSContext {
        try TLSContext(
            files.settings {
                $0.clientAuthentication = kind
                $0.clientAuthorityFile = files.path(authority)
            })
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `a valid certificate says who the client is`(version: Int32) throws {
        files.make(
            "shop", commonName: "Shop ä",
            names: ["DNS:shop.test", "URI:spiffe://test/shop", "email:a@b.test"])
        let context = try mutual(.required)
        let options = TLSTestClient.Options(maximum: version, identity: files.pair("shop"))
        let pair = try TLSPair(context, options)
        pair.shakeHands()
        #expect(pair.state == .open)
        let certificate = try #require(pair.agreement?.clientCertificate)
        #expect(certificate.commonName == "Shop ä" && certificate.sha256.count == 32)
        #expect(
            certificate.alternativeNames == ["DNS:shop.test", "URI:spiffe://test/shop", "email:a@b.test"])
        #expect(abs(certificate.expires - Int64(time(nil)) - 10 * 86_400) < 3_600)
        // A resumed session knows it too.
        var again = options
        again.session = pair.client.session
        let resumed = try TLSPair(context, again)
        resumed.shakeHands()
        #expect(resumed.client.isResumed && resumed.agreement?.clientCertificate == certificate)
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `who has no valid certificate is refused where one is shown or required`(version: Int32) throws {
        let strangers = TLSTestFiles()
        strangers.make("stranger")
        files.make("expired", days: -1)
        files.make("good")
        let identities: [(name: String, pair: (certificate: String, key: String)?, isValid: Bool)] = [
            ("none", nil, false), ("good", files.pair("good"), true),
            ("expired", files.pair("expired"), false), ("stranger", strangers.pair("stranger"), false),
        ]
        for kind in TLSContext.Settings.ClientAuthentication.allCases {
            let context = try mutual(kind)
            for (name, identity, isValid) in identities {
                let pair = try TLSPair(context, .init(maximum: version, identity: identity))
                pair.shakeHands()
                let isServed = kind == .none || isValid || kind == .optional && name == "none"
                #expect((pair.state == .open) == isServed, "\(kind) \(name)")
                if !isServed {
                    #expect(pair.state == .failed(.certificate) && pair.client.failed, "\(kind) \(name)")
                }
                #expect((pair.agreement?.clientCertificate != nil) == (isValid && kind != .none))
            }
        }
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `a ticket made under other authorities does not count`(version: Int32) throws {
        files.make("good")
        let others = TLSTestFiles()
        let context = try mutual(.optional)
        let options = TLSTestClient.Options(identity: files.pair("good"))
        let ticket = try session(context, version, options)
        #expect(try resumes(context, ticket, version, options))
        files.copy("ca.pem", from: others)
        try context.reload()
        #expect(try !resumes(context, ticket, version))
    }
}

/// Numbers one after the other, for any thread.
private final class Counter: Sendable {
    private let value = ManualClock(nanoseconds: 0)
    func next() -> UInt64 {
        value.advance(by: .nanoseconds(1))
        return value.nanoseconds
    }
}
