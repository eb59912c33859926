import Threading

// Output side: answers in request order → bytes → socket; and the ends of a connection.
extension Connection {
    /// Bytes of answers that the kernel has not taken.
    var unsentByteCount: Int { output.count - sentByteCount + (tls?.unsentByteCount ?? 0) }

    /// Nobody waits for an answer.
    var isAnswered: Bool { isHTTP2 ? http2?.isIdle ?? true : pendingCount == 0 }

    /// Takes the answer to request `sequence`; `settle` sends it.
    func answer(_ sequence: UInt64, _ response: HTTPResponse, _ loop: EventLoop) {
        if isHTTP2, let http2 { return answer(sequence, response, http2, loop) }
        guard let position = unanswered(sequence) else { return }
        fill(position, response)
    }

    /// Nobody is left to answer request `sequence`: the application's words for that are the answer.
    func abandon(_ sequence: UInt64, _ loop: EventLoop) {
        if isHTTP2, let http2 {
            guard http2.begins(sequence) else { return }
            return answer(sequence, loop.settings.errorResponse(.abandoned), http2, loop)
        }
        guard let position = unanswered(sequence) else { return }
        fill(position, loop.settings.errorResponse(.abandoned))
    }

    private func unanswered(_ sequence: UInt64) -> Int? {
        let position = sequence &- firstSequence
        guard position < UInt64(pendingCount), pipeline[Int(position)].response == nil else { return nil }
        return Int(position)
    }

    /// Sends what can be sent, closes when all is done, and sets the timer: after everything else that
    /// happened.
    func settle(_ loop: EventLoop) {
        guard phase != .closed else { return }
        if isHTTP2, let http2 {
            writeFrames(http2, loop)
        } else {
            writeReadyAnswers(loop)
            flush(loop)
        }
        guard phase != .closed else { return }
        if canAdvance(loop.settings.limits) { loop.schedule(self) }
        setTimer(loop)
    }

    private func writeReadyAnswers(_ loop: EventLoop) {
        var written = 0
        while written < pendingCount, let response = pipeline[written].response {
            var form = pipeline[written].form
            let isLast = written + 1 == pendingCount
            if response.closesConnection || loop.isDraining && isLast && !hasUnparsedInput {
                form.closes = true
            }
            write(response, form, loop)
            written += 1
            if form.closes {
                if !isLast || hasUnparsedInput || !input.isEmpty || parser.isInBody { lingers = true }
                phase = .finishing
                dequeue(pendingCount)
                return
            }
        }
        if written > 0 { dequeue(written) }
        if owesContinue, pendingCount == 0 {
            owesContinue = false
            if parser.isInBody, parser.bodyByteCount == 0 {
                output.append(contentsOf: HTTP1Writer.continueLine)
            }
        }
    }

    /// Appends an answer to what is to be sent.
    func write(_ response: HTTPResponse, _ form: HTTP1Writer.Form, _ loop: EventLoop) {
        // Held by nobody else meanwhile, so that no access to it has to be watched.
        var bytes: [UInt8] = []
        swap(&bytes, &output)
        if bytes.isEmpty { loop.lendOutput(&bytes) }
        let leftOut = HTTP1Writer.append(response, form, date: loop.dateField, to: &bytes)
        swap(&bytes, &output)
        if leftOut > 0 { loop.counters.fieldsLeftOut.increase(by: leftOut) }
    }

    func flush(_ loop: EventLoop) {
        while unsentByteCount > 0 {
            guard isWritable else { return }
            switch send(loop) {
            case .bytes(let count):
                loop.counters.bytesSent.increase(by: count)
            case .wouldBlock:
                isWritable = false
                dropSent()
                if blockedSince == 0 { blockedSince = loop.now }
            case .end, .failed: return close(loop)
            }
        }
        blockedSince = 0
        if sentByteCount > 0 {
            sentByteCount = 0
            recycleOutput(loop)
            idleSince = loop.now
        }
        guard phase == .finishing, isAnswered else { return }
        if sayGoodbye(loop) { flush(loop) } else { finish(loop) }
    }

    /// A peer that always leaves something must not make what it has taken stay. Moves no more than was sent.
    private func dropSent() {
        // With TLS all of it may be sealed and not sent: `flush` then gives the memory back.
        let left = output.count - sentByteCount
        guard sentByteCount >= 65_536, left > 0, sentByteCount >= left else { return }
        output.removeFirst(sentByteCount)
        sentByteCount = 0
    }

    private func send(_ loop: EventLoop) -> Socket.Transfer {
        if let tls { return send(through: tls, loop) }
        let transfer = socket.write(output, from: sentByteCount)
        if case .bytes(let count) = transfer { sentByteCount += count }
        return transfer
    }

    /// Gives the memory of a sent output back.
    func recycleOutput(_ loop: EventLoop) {
        var sent: [UInt8] = []
        swap(&sent, &output)
        loop.recycleOutput(sent)
    }

    /// Everything is sent. Closing a socket with unread input resets it and may destroy the answer on its
    /// way, so input is dropped for a while first (RFC 9112 §9.6).
    private func finish(_ loop: EventLoop) {
        guard lingers || isReadable, !hasPeerEnded || isReadable else { return close(loop) }
        socket.shutdownWrite()
        phase = .lingering
        lingerSince = loop.now
        input.release()
        presence.leave()
    }

    func close(_ loop: EventLoop) {
        guard phase != .closed else { return }
        endTLS(loop)
        phase = .closed
        presence.leave()
        http2?.leave()
        loop.remove(self)
    }

    // MARK: - Time

    private func setTimer(_ loop: EventLoop) {
        deadline = nextDeadline(loop)
        guard deadline != .max else { return }
        if loop.timers.tick(for: deadline) < timerTick {
            timerTick = loop.timers.set(key, deadline: deadline)
        }
    }

    private var isMidHead: Bool {
        phase == .open && !parser.isInBody && !input.isEmpty && !hasUnparsedInput && !awaitsProxyHeader
    }

    /// Between two requests, or before the first.
    var isIdle: Bool {
        phase == .open && isAnswered && unsentByteCount == 0 && input.isEmpty && !parser.isInBody
    }

    private func nextDeadline(_ loop: EventLoop) -> UInt64 {
        let times = loop.settings.times
        if phase == .lingering { return lingerSince &+ times.linger }
        if isHTTP2, let http2 { return nextDeadline(http2, loop) }
        var next = UInt64.max
        if unsentByteCount > 0 { next = blockedSince &+ times.write }
        guard phase == .open else { return next }
        if let tls, tls.isHandshaking { return min(next, handshakeDeadline(tls, loop)) }
        if parser.isInBody {
            next = min(next, bodyDeadline(loop))
        } else if isMidHead || requestCount == 0 && !loop.isDraining {
            next = min(next, (requestStartedAt ?? idleSince) &+ times.head)
        } else if pendingCount == 0, unsentByteCount == 0, !hasUnparsedInput {
            next = min(next, idleSince &+ times.idle)
            if loop.isDraining { next = min(next, max(idleSince, loop.drainingSince) &+ times.drainIdle) }
        }
        return next
    }

    /// The whole body in its time, and never slower than the least rate.
    private func bodyDeadline(_ loop: EventLoop) -> UInt64 {
        let times = loop.settings.times
        let start = bodyStartedAt ?? loop.now
        let perByte = 1_000_000_000 / UInt64(loop.settings.limits.bodyBytesPerSecondMin)
        let earned = times.bodyGrace &+ UInt64(parser.bodyByteCount) &* perByte
        return start &+ min(times.body, earned)
    }

    /// A timer entry of `tick` has come.
    func expire(tick: UInt64, _ loop: EventLoop) {
        guard phase != .closed, tick == timerTick else { return }
        timerTick = .max
        if loop.now >= deadline {
            if phase == .lingering { return close(loop) }
            if unsentByteCount > 0, loop.now >= blockedSince &+ loop.settings.times.write {
                loop.counters.timeouts.increase()
                return close(loop)
            }
            if isHTTP2, let http2 { return expire(http2, loop) }
            guard phase == .open, parser.isInBody || isMidHead else { return close(loop) }
            fail(.requestTimeout, loop)
        }
        loop.touch(self)
    }
}
