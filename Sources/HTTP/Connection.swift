import Threading

/// One peer: codec ∘ socket; the codec is HTTP/1, or HTTP/2 (`Connection+HTTP2.swift`). Lives on its loop's
/// thread and never leaves it.
///
/// Input side: bytes → requests → handler. The output side is in `Connection+Output.swift`.
final class Connection {
    enum Phase {
        /// Requests are read.
        case open
        /// Nothing more is read; closes after the answers that are pending.
        case finishing
        /// Everything is sent, FIN too; what the peer still sends is dropped for a while.
        case lingering
        case closed
    }

    /// A request that is handled, or refused, and its answer as soon as that is known.
    struct PendingAnswer {
        var form: HTTP1Writer.Form
        var response: HTTPResponse?
    }

    let key: UInt64
    /// The address that counts, for limits and in requests, and whether it is on this machine.
    var network: NetworkAddress?
    var peer: String
    var isLoopback: Bool
    let listener: ListenerProperties
    let presence = Presence()
    let socket: Socket
    /// Nil on plain connections.
    var tls: TLSChannel?
    var phase = Phase.open
    /// True when the connection is one too many: it gets 503 and does not count.
    var isRefused = false
    /// It counts among those of its address.
    var isCounted = false
    /// The peer may say for whom it speaks.
    var isListedProxy = false
    /// A PROXY header has to come before all else.
    var awaitsProxyHeader = false
    /// Listed for `settle`.
    var isTouched = false
    /// Listed for `advance` without a new event.
    var isRunnable = false

    // Input
    let parser: HTTP1Parser
    /// The codec in place of `parser`, once the peer has begun HTTP/2.
    var http2: HTTP2Session?
    /// True from then on; a plain value is cheaper to look at than a reference.
    var isHTTP2 = false
    /// The first bytes may still be those that begin HTTP/2.
    var awaitsPreface = true
    let input = ReadBuffer()
    /// `input` begins a request that the parser has not seen.
    var hasUnparsedInput = false
    /// The socket has bytes, or its end, as far as epoll has told.
    var isReadable = false
    /// The peer has sent its last byte, and still gets its answers.
    var hasPeerEnded = false
    var requestCount = 0

    // Output
    private(set) var pipeline: [PendingAnswer] = []
    /// Requests in `pipeline`.
    private(set) var pendingCount = 0
    /// Sequence number of `pipeline[0]`.
    var firstSequence: UInt64 = 0
    var output: [UInt8] = []
    var sentByteCount = 0
    var isWritable = true
    var owesContinue = false
    /// The peer may still be sending a request that was refused.
    var lingers = false

    // Times, in monotonic nanoseconds
    var requestStartedAt: UInt64?
    var bodyStartedAt: UInt64?
    var idleSince: UInt64
    var blockedSince: UInt64 = 0
    var lingerSince: UInt64 = 0
    var deadline = UInt64.max
    /// The tick of the timer entry that counts; later entries are stale.
    var timerTick = UInt64.max

    init(
        key: UInt64, socket: consuming Socket, peer: Peer, listener: ListenerProperties, limits: HTTPLimits,
        now: UInt64
    ) {
        self.key = key
        self.socket = socket
        network = peer.network
        self.peer = peer.address
        isLoopback = peer.isLoopback
        self.listener = listener
        tls = listener.tls.map { TLSChannel($0, now: now) }
        // Over TLS the handshake has chosen the codec (RFC 9113 §3.2).
        awaitsPreface = listener.tls == nil
        parser = HTTP1Parser(limits: limits)
        idleSince = now
        requestStartedAt = now
    }

    /// Back-pressure: while answers wait for handlers or for the peer, no further request is begun.
    private func isPaused(_ limits: HTTPLimits) -> Bool {
        if isHTTP2 { return unsentByteCount > limits.unsentBytesMax }
        return (pendingCount >= limits.pipelinedRequestsMax || unsentByteCount > limits.unsentBytesMax)
            && !parser.isInBody
    }

    /// True when `advance` would find something to do.
    func canAdvance(_ limits: HTTPLimits) -> Bool {
        switch phase {
        case .open: (hasUnparsedInput || isReadable) && !isPaused(limits)
        case .lingering: isReadable
        case .finishing, .closed: false
        }
    }

    /// Takes note of an epoll event.
    func handle(_ event: Poller.Event, _ loop: EventLoop) {
        if event.isBroken { return close(loop) }
        if event.isWritable { isWritable = true }
        if event.isReadable { isReadable = true }
        if event.hasEnded {
            hasPeerEnded = true
            isReadable = true
        }
        // Handshakes cost time: they go on one after the other, a few in each turn of the loop.
        if isHandshaking { loop.schedule(self) } else { advance(loop) }
    }

    /// Reads and parses until the socket is empty, the connection is paused, or its turn is over.
    func advance(_ loop: EventLoop) {
        let limits = loop.settings.limits
        // 16 reads of 64 KiB: then other connections have their turn.
        var turns = 16
        while canAdvance(limits) {
            guard turns > 0 else { return loop.schedule(self) }
            turns -= 1
            if phase == .lingering {
                dropInput(loop)
            } else if hasUnparsedInput {
                hasUnparsedInput = false
                parse(input, loop)
                if input.isEmpty { input.release() }
            } else if isHandshaking, !loop.takeHandshakeTurn() {
                return loop.schedule(self)
            } else {
                receive(loop)
            }
        }
    }

    private func receive(_ loop: EventLoop) {
        switch loop.scratch.receive(from: socket) {
        case .bytes(let count):
            loop.counters.bytesReceived.increase(by: count)
            // A short read has emptied the socket; the next byte is a new edge.
            if count < loop.scratch.capacity, !hasPeerEnded { isReadable = false }
            if awaitsProxyHeader, !takeProxyHeader(loop) { return }
            if let tls { receive(through: tls, loop) } else { take(loop.scratch, loop) }
        case .wouldBlock: isReadable = false
        case .end: endInput(loop)
        case .failed: close(loop)
        }
    }

    /// Takes plaintext, of which nothing is left in `bytes`' owner's hands afterwards.
    func take(_ bytes: ReadBuffer, _ loop: EventLoop) {
        if input.isEmpty {
            parse(bytes, loop)
            if !bytes.isEmpty, phase == .open { input.append(bytes) }
        } else {
            input.append(bytes)
            hasUnparsedInput = true
        }
    }

    private func dropInput(_ loop: EventLoop) {
        switch loop.scratch.receive(from: socket) {
        case .bytes(let count): loop.counters.bytesReceived.increase(by: count)
        case .wouldBlock: isReadable = false
        case .end, .failed: close(loop)
        }
    }

    /// The peer sends no more, but may still read: it gets the answers that are pending.
    func endInput(_ loop: EventLoop) {
        hasPeerEnded = true
        isReadable = false
        http2?.endInput()
        if isAnswered, unsentByteCount == 0 { return close(loop) }
        phase = .finishing
    }

    private func parse(_ bytes: ReadBuffer, _ loop: EventLoop) {
        if awaitsPreface, !lookForPreface(bytes, loop) { return }
        if isHTTP2, let http2 { return receive(bytes, http2, loop) }
        guard phase == .open, takesMore(bytes, loop) else { return }
        var event = bytes.parse(with: parser)
        while true {
            switch event {
            case .partial: return notePartial(bytes, loop)
            case .failure(let error): return fail(error, loop)
            case .request, .repeated:
                guard var request = parser.takeRequest() else { return }
                describe(&request, loop)
                repeat {
                    dispatch(request, loop)
                    guard phase == .open, !bytes.isEmpty, takesMore(bytes, loop) else { return }
                    event = bytes.parse(with: parser)
                } while event == .repeated
            }
        }
    }

    /// False when no further request may be begun yet.
    private func takesMore(_ bytes: ReadBuffer, _ loop: EventLoop) -> Bool {
        guard isPaused(loop.settings.limits) else { return true }
        hasUnparsedInput = !bytes.isEmpty
        return false
    }

    private func notePartial(_ bytes: ReadBuffer, _ loop: EventLoop) {
        if parser.isInBody {
            if bodyStartedAt == nil { bodyStartedAt = loop.now }
            if parser.takeContinue() { owesContinue = true }
        } else if !bytes.isEmpty, requestStartedAt == nil {
            requestStartedAt = loop.now
        }
    }

    private func dispatch(_ request: HTTPRequest, _ loop: EventLoop) {
        countRequest(loop)
        requestStartedAt = nil
        bodyStartedAt = nil
        owesContinue = false
        let closes = !request.isKeepAlive || requestCount >= loop.settings.limits.requestsPerConnectionMax
        let sequence = firstSequence &+ UInt64(pendingCount)
        let form = HTTP1Writer.Form(
            isHEAD: request.method == "HEAD", isHTTP10: request.version == .http10, closes: closes)
        if closes { phase = .finishing }
        guard let response = loop.hand(request, connection: key, sequence: sequence) else {
            return enqueue(PendingAnswer(form: form))
        }
        guard !closes, isDirect(response, loop) else {
            return enqueue(PendingAnswer(form: form, response: response))
        }
        firstSequence &+= 1
        write(response, form, loop)
    }

    /// True when an answer can be written at once: none is before it, and it does not end the connection.
    private func isDirect(_ response: HTTPResponse, _ loop: EventLoop) -> Bool {
        pendingCount == 0 && !response.closesConnection && !loop.isDraining
    }

    /// Adds what the bytes do not say.
    func describe(_ request: inout HTTPRequest, _ loop: EventLoop) {
        describePeer(in: &request, loop)
        request.receivedAt = loop.now
        request.isSecure = tls != nil
        request.clientCertificate = tls?.clientCertificate
    }

    func countRequest(_ loop: EventLoop) {
        requestCount += 1
        loop.counters.requests.increase()
    }

    // MARK: - Pipeline

    private func enqueue(_ answer: PendingAnswer) {
        pipeline.append(answer)
        pendingCount += 1
    }

    /// Sets the answer at a position of the pipeline.
    func fill(_ position: Int, _ response: HTTPResponse) { pipeline[position].response = response }

    /// Drops the first `count` requests of the pipeline, which are answered, or will never be.
    func dequeue(_ count: Int) {
        firstSequence &+= UInt64(count)
        pendingCount -= count
        pipeline.removeFirst(count)
    }

    /// Refuses what the peer sends: the answer follows those pending, then the connection closes.
    func fail(_ error: HTTPProtocolError, _ loop: EventLoop) {
        if error == .requestTimeout {
            loop.counters.timeouts.increase()
        } else if !isRefused {
            loop.counters.protocolErrors.increase()
        }
        owesContinue = false
        lingers = true
        phase = .finishing
        enqueue(
            PendingAnswer(form: .init(closes: true), response: loop.settings.errorResponse(error)))
    }
}
