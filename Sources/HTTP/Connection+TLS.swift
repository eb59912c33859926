/// TLS between a connection's socket and its codec.
final class TLSChannel {
    let context: TLSContext
    /// Made when the client's first bytes come: a silent client costs nothing.
    var session: TLSSession?
    /// Ciphertext that the kernel has not taken from `sentByteCount` on.
    var sealed: [UInt8] = []
    var sentByteCount = 0
    let startedAt: UInt64
    var receivedByteCount = 0
    private(set) var isHandshaking = true
    private(set) var clientCertificate: ClientCertificate?

    init(_ context: TLSContext, now: UInt64) {
        self.context = context
        startedAt = now
    }

    var unsentByteCount: Int { sealed.count - sentByteCount }

    func completeHandshake(_ agreement: TLSSession.Agreement) {
        isHandshaking = false
        clientCertificate = agreement.clientCertificate
    }

    func abandonHandshake() { isHandshaking = false }
}

// Plaintext ↔ ciphertext, where the listener speaks TLS.
extension Connection {
    /// Bytes that are sealed at once: four full records, which one write usually takes.
    private static let sealedAtOnceMax = 65_536

    var isHandshaking: Bool { tls?.isHandshaking ?? false }

    // MARK: Input

    /// Takes what the loop's scratch has received.
    func receive(through tls: TLSChannel, _ loop: EventLoop) {
        guard tls.session != nil || beginHandshake(tls, loop) else { return }
        loop.prepareForTLS()
        if tls.sealed.isEmpty { loop.lendSealed(&tls.sealed) }
        tls.receivedByteCount &+= loop.scratch.count
        loop.opened.open(loop.scratch, by: &tls.session, output: &tls.sealed)
        if tls.sealed.isEmpty { loop.recycleSealed(&tls.sealed) }
        if tls.isHandshaking { noteHandshake(tls, loop) }
        if !loop.opened.isEmpty { take(loop.opened, loop) }
        switch tls.session?.state {
        // What waits to be parsed comes before the end of it, which FIN will tell again.
        case .ended where !hasUnparsedInput: endInput(loop)
        case .failed(let failure) where phase == .open: fail(tls, failure, loop)
        default: break
        }
    }

    /// Looks at the first bytes; false when there is nothing to go on with.
    private func beginHandshake(_ tls: TLSChannel, _ loop: EventLoop) -> Bool {
        // A request begins with a letter, a record never.
        if let first = loop.scratch.first, first &- 0x41 < 26 {
            loop.counters.tls.count(.plain)
            self.tls = nil
            fail(.plainOnTLS, loop)
            return false
        }
        let limits = loop.settings.limits
        if loop.settings.handshakes.admit(limit: limits.handshakesMax) {
            if let session = TLSSession(tls.context.configuration) {
                tls.session = consume session
                return true
            }
            loop.settings.handshakes.leave()
        }
        tls.abandonHandshake()
        loop.counters.tls.count(.limit)
        close(loop)
        return false
    }

    private func noteHandshake(_ tls: TLSChannel, _ loop: EventLoop) {
        if let agreement = tls.session?.agreement {
            loop.settings.handshakes.leave()
            loop.counters.tls.countHandshake(agreement)
            tls.completeHandshake(agreement)
            if agreement.applicationProtocol == "h2" { beginHTTP2(loop) }
            // The first request has its time from here on.
            requestStartedAt = loop.now
            idleSince = loop.now
        } else if tls.receivedByteCount > loop.settings.limits.handshakeBytesMax, phase == .open {
            fail(tls, .limit, loop)
        }
    }

    /// Nothing more is read; what there is to say, such as an alert, is still sent.
    private func fail(_ tls: TLSChannel, _ failure: TLSFailure, _ loop: EventLoop) {
        loop.counters.tls.count(failure)
        if tls.isHandshaking { loop.settings.handshakes.leave() }
        tls.abandonHandshake()
        presence.leave()
        http2?.leave()
        http2 = nil
        isHTTP2 = false
        dequeue(pendingCount)
        output.removeAll()
        sentByteCount = 0
        lingers = true
        phase = .finishing
    }

    // MARK: Output

    /// Seals the next piece when nothing sealed waits, and writes what is sealed.
    func send(through tls: TLSChannel, _ loop: EventLoop) -> Socket.Transfer {
        if tls.unsentByteCount == 0, sentByteCount < output.count {
            if tls.sealed.isEmpty { loop.lendSealed(&tls.sealed) }
            let end = min(output.count, sentByteCount + Self.sealedAtOnceMax)
            tls.session?.send(output.span.extracting(sentByteCount..<end), output: &tls.sealed)
            sentByteCount = end
            guard tls.unsentByteCount > 0 else { return .failed(errno: 0) }
        }
        let transfer = socket.write(tls.sealed, from: tls.sentByteCount)
        if case .bytes(let count) = transfer { tls.sentByteCount += count }
        if tls.unsentByteCount == 0 {
            tls.sentByteCount = 0
            loop.recycleSealed(&tls.sealed)
        }
        return transfer
    }

    /// Makes the server's last word, once; true when there is one to send.
    func sayGoodbye(_ loop: EventLoop) -> Bool {
        guard let tls else { return false }
        if tls.sealed.isEmpty { loop.lendSealed(&tls.sealed) }
        tls.session?.close(output: &tls.sealed)
        if tls.sealed.isEmpty { loop.recycleSealed(&tls.sealed) }
        return tls.unsentByteCount > 0
    }

    /// The connection closes now, whatever was under way.
    func endTLS(_ loop: EventLoop) {
        guard let tls else { return }
        if tls.isHandshaking {
            if tls.session != nil { loop.settings.handshakes.leave() }
            tls.abandonHandshake()
            loop.counters.tls.count(loop.now >= handshakeDeadline(tls, loop) ? .timeout : .gone)
        } else if unsentByteCount == 0, isWritable, sayGoodbye(loop) {
            _ = socket.write(tls.sealed, from: 0)
        }
        tls.session = nil
    }

    // MARK: Time

    func handshakeDeadline(_ tls: TLSChannel, _ loop: EventLoop) -> UInt64 {
        let times = loop.settings.times
        let deadline = tls.startedAt &+ times.handshake
        guard loop.isDraining else { return deadline }
        return min(deadline, max(tls.startedAt, loop.drainingSince) &+ times.drainIdle)
    }
}
