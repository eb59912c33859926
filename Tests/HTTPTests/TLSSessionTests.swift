import COpenSSL
import TestSupport
import Testing

@testable import HTTP

/// A server session and a client in memory, and what goes between them.
final class TLSPair {
    private var session: TLSSession
    let client: TLSTestClient
    private(set) var plaintext: [UInt8] = []
    /// Bytes of a piece that the server gets at once.
    var pieceBytes = Int.max

    init(_ context: TLSContext, _ options: TLSTestClient.Options = .init()) throws {
        guard let session = TLSSession(context.configuration) else { throw HTTPError.alreadyStarted }
        self.session = session
        client = TLSTestClient(options)
    }

    var state: TLSSession.State { session.state }
    var agreement: TLSSession.Agreement? { session.agreement }

    /// What the server answers to `bytes`.
    func serve(_ bytes: [UInt8]) -> [UInt8] {
        var (output, rest): ([UInt8], ArraySlice<UInt8>) = ([], bytes[...])
        while !rest.isEmpty {
            let piece = Array(rest.prefix(pieceBytes))
            rest = rest.dropFirst(pieceBytes)
            var room = [UInt8](repeating: 0, count: piece.count + 17_000)
            let count = session.receive(piece.span, into: &room, output: &output)
            plaintext += room.prefix(count)
        }
        return output
    }

    /// The handshake to its end, or its failure.
    func shakeHands() {
        var toServer = client.advance()
        while !toServer.isEmpty {
            let toClient = serve(toServer)
            toServer = client.advance(toClient)
        }
    }

    func send(_ bytes: [UInt8]) -> [UInt8] {
        var output: [UInt8] = []
        session.send(bytes.span, output: &output)
        return output
    }

    func close() -> [UInt8] {
        var output: [UInt8] = []
        session.close(output: &output)
        return output
    }
}

/// Each test's own files; the certificates take milliseconds.
@Suite struct TLSSessionTests {
    private let files: TLSTestFiles

    init() {
        files = TLSTestFiles()
        files.make("server")
    }

    private func context(_ change: (inout TLSContext.Settings) -> Void = { _ in }) throws -> TLSContext {
        try TLSContext(files.settings(change))
    }

    private static let text = Array("GET / HTTP/1.1\r\n\r\n".utf8)

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `a client and the server agree and exchange bytes`(version: Int32) throws {
        let pair = try TLSPair(context(), .init(maximum: version, authority: files.path("ca.pem")))
        pair.shakeHands()
        #expect(pair.client.isDone && pair.state == .open)
        #expect(pair.client.version == version)
        #expect(pair.agreement?.version == (version == TLS1_3_VERSION ? .v13 : .v12))
        #expect(pair.agreement?.isResumed == false && pair.agreement?.applicationProtocol == nil)
        #expect(pair.serve(pair.client.seal(Self.text)) == [] && pair.plaintext == Self.text)
        #expect(pair.client.advance(pair.send(Self.text)) == [] && pair.client.received == Self.text)
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `records may come byte by byte`(version: Int32) throws {
        let pair = try TLSPair(context(), .init(maximum: version))
        pair.pieceBytes = 1
        pair.shakeHands()
        #expect(pair.state == .open)
        _ = pair.serve(pair.client.seal(Self.text) + pair.client.seal(Self.text))
        #expect(pair.plaintext == Self.text + Self.text)
    }

    @Test func `a flight may be cut in two anywhere`() throws {
        let context = try context()
        // What a client sends to the end: about 400 bytes of hello, then Finished and a request.
        for cut in stride(from: 1, to: 700, by: 1) {
            let pair = try TLSPair(context)
            let hello = pair.client.advance()
            var answer = pair.serve(Array(hello.prefix(cut)))
            answer += pair.serve(Array(hello.dropFirst(cut)))
            let rest = pair.client.advance(answer) + pair.client.seal(Self.text)
            let place = max(0, cut - hello.count)
            _ = pair.serve(Array(rest.prefix(place)))
            _ = pair.serve(Array(rest.dropFirst(place)))
            #expect(pair.state == .open && pair.plaintext == Self.text, "cut at \(cut)")
            if place >= rest.count { break }
        }
    }

    @Test func `a large answer becomes records of 16 KiB`() throws {
        let pair = try TLSPair(context())
        pair.shakeHands()
        let large = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let sealed = pair.send(large)
        var (place, sizes): (Int, [Int]) = (0, [])
        while place + 5 <= sealed.count {
            let size = Int(sealed[place + 3]) << 8 | Int(sealed[place + 4])
            sizes.append(size)
            place += 5 + size
        }
        #expect(place == sealed.count && sizes.count == 13)
        #expect(sizes.dropLast().allSatisfy { $0 == 16_384 + 17 })
        #expect(pair.client.advance(sealed) == [] && pair.client.received == large)
    }

    @Test func `64 KiB of ciphertext behind a partial record fit into the plaintext`() throws {
        let pair = try TLSPair(context())
        pair.shakeHands()
        let bytes = [UInt8](repeating: 7, count: 16_384 * 6)
        let sealed = pair.client.seal(bytes)
        // All but one byte of a record is held, then as much as one read brings.
        _ = pair.serve(Array(sealed.prefix(16_405)))
        #expect(pair.plaintext.isEmpty)
        var rest = sealed.dropFirst(16_405)
        while !rest.isEmpty {
            _ = pair.serve(Array(rest.prefix(65_536)))
            rest = rest.dropFirst(65_536)
        }
        #expect(pair.state == .open && pair.plaintext == bytes)
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func `either side may close first`(version: Int32) throws {
        let one = try TLSPair(context(), .init(maximum: version))
        one.shakeHands()
        _ = one.serve(one.client.seal(Self.text) + one.client.close())
        #expect(one.state == .ended && one.plaintext == Self.text)
        // The client has ended its side and still reads.
        _ = one.client.advance(one.send(Self.text) + one.close())
        #expect(one.client.received == Self.text)
        let other = try TLSPair(context(), .init(maximum: version))
        other.shakeHands()
        _ = other.client.advance(other.close())
        #expect(other.client.isClosed && !other.client.failed)
        #expect(other.send(Self.text).isEmpty)
    }

    @Test func `what is not TLS fails with an alert, at every prefix of it`() throws {
        let context = try context()
        var random = SeededRandom(5)
        for count in 1..<60 {
            let pair = try TLSPair(context)
            let garbage = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            let answer = pair.serve(garbage)
            if case .failed = pair.state {
                #expect(answer.isEmpty || answer[0] == 21, "\(garbage)")
            } else {
                #expect(pair.state == .handshaking && answer.isEmpty, "\(garbage)")
            }
        }
    }

    @Test func `a damaged record fails the session and is not delivered`() throws {
        let context = try context()
        let sample = try TLSPair(context)
        sample.shakeHands()
        for place in 0..<sample.client.seal(Self.text).count {
            let pair = try TLSPair(context)
            pair.shakeHands()
            var record = pair.client.seal(Self.text)
            record[place] ^= 0x41
            let answer = pair.serve(record)
            // A longer record than there is waits for its rest.
            if place == 3 || place == 4, pair.state == .open { continue }
            guard case .failed = pair.state else {
                Issue.record("byte \(place): \(pair.state)")
                continue
            }
            #expect(pair.plaintext.isEmpty && !answer.isEmpty)
            _ = pair.client.advance(answer)
            #expect(pair.client.failed)
        }
    }

    @Test(arguments: [TLS1_VERSION, TLS1_1_VERSION])
    func `old versions are refused`(version: Int32) throws {
        let pair = try TLSPair(context(), .init(maximum: version, minimum: version))
        pair.shakeHands()
        #expect(pair.client.failed && pair.state == .failed(.version))
    }

    @Test func `TLS 1_2 is refused where 1_3 is the least`() throws {
        let context = try context { $0.minimumVersion = .v13 }
        let pair = try TLSPair(context, .init(maximum: TLS1_2_VERSION))
        pair.shakeHands()
        #expect(pair.client.failed && pair.state == .failed(.version))
        let newer = try TLSPair(context)
        newer.shakeHands()
        #expect(newer.state == .open)
    }

    @Test(arguments: [
        "AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "AES256-GCM-SHA384",
    ])
    func `ciphers without forward secrecy or authentication are refused`(cipher: String) throws {
        let pair = try TLSPair(context(), .init(maximum: TLS1_2_VERSION, ciphers: cipher))
        pair.shakeHands()
        #expect(pair.client.failed && pair.state == .failed(.cipher))
    }

    @Test func `the protocol is the server's first that the client offers, and none of ours is an alert`()
        throws
    {
        let context = try context { $0.protocols = ["h2", "http/1.1"] }
        let table: [([String], String?)] = [
            (["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"),
            (["x", "http/1.1"], "http/1.1"), ([], nil),
        ]
        for (offered, expected) in table {
            let pair = try TLSPair(context, .init(protocols: offered))
            pair.shakeHands()
            #expect(pair.state == .open && pair.agreement?.applicationProtocol == expected)
        }
        for offered in [["http/1.0"], ["spdy/1"], ["h", "h22"]] {
            let pair = try TLSPair(context, .init(protocols: offered))
            let answer = pair.serve(pair.client.advance())
            #expect(pair.state == .failed(.alpn))
            // A fatal no_application_protocol.
            #expect(Array(answer.suffix(2)) == [2, 120])
        }
    }

    @Test func `renegotiation is refused and the session goes on`() throws {
        let pair = try TLSPair(context(), .init(maximum: TLS1_2_VERSION))
        pair.shakeHands()
        let answer = pair.serve(pair.client.renegotiate())
        #expect(answer.first == 21 && pair.state == .open)
        _ = pair.client.advance(answer)
        #expect(pair.client.failed)
    }

    @Test func `changes of keys are taken, but not without end`() throws {
        let pair = try TLSPair(context())
        pair.shakeHands()
        for _ in 0..<10 { _ = pair.serve(pair.client.updateKey() + pair.client.seal(Self.text)) }
        #expect(pair.state == .open && pair.plaintext.count == 10 * Self.text.count)
        var flood: [UInt8] = []
        for _ in 0..<TLSSession.messagesMax { flood += pair.client.updateKey() }
        _ = pair.serve(flood)
        #expect(pair.state == .failed(.limit))
    }

    @Test func `a client may choose between certificates of two kinds`() throws {
        files.make("second", .rsa)
        let context = try context {
            $0.identities.append(files.identity("second"))
        }
        let table = [
            ("ECDHE-RSA-AES128-GCM-SHA256", EVP_PKEY_RSA), ("ECDHE-ECDSA-AES128-GCM-SHA256", EVP_PKEY_EC),
        ]
        for (cipher, kind) in table {
            let pair = try TLSPair(context, .init(maximum: TLS1_2_VERSION, ciphers: cipher))
            pair.shakeHands()
            #expect(pair.client.isDone && pair.client.cipher == cipher && pair.client.serverKeyKind == kind)
        }
    }
}
