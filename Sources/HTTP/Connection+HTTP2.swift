// The connection of a peer that speaks HTTP/2: bytes → session → handler, and back.
extension Connection {
    /// Chooses the codec by the first bytes (RFC 9113 §3.3); false as long as they are too few.
    func lookForPreface(_ bytes: ReadBuffer, _ loop: EventLoop) -> Bool {
        guard let isHTTP2 = bytes.begins(with: HTTP2FrameScanner.preface) else { return false }
        awaitsPreface = false
        if isHTTP2 { beginHTTP2(loop) }
        return true
    }

    /// From here on the peer speaks HTTP/2; its preface is still to come.
    func beginHTTP2(_ loop: EventLoop) {
        awaitsPreface = false
        http2 = HTTP2Session(limits: loop.settings.limits, counters: loop.counters.http2, now: loop.now)
        isHTTP2 = http2 != nil
        guard isHTTP2 else { return close(loop) }
        loop.counters.http2.connections.increase()
    }

    func receive(_ bytes: ReadBuffer, _ session: HTTP2Session, _ loop: EventLoop) {
        session.now = loop.now
        bytes.take { session.receive($0) }
        handOut(session, loop)
    }

    private func handOut(_ session: HTTP2Session, _ loop: EventLoop) {
        guard !session.arrivals.isEmpty else { return }
        let arrivals = session.arrivals
        session.arrivals = []
        for arrival in arrivals {
            switch arrival {
            case .request(let sequence, var request, let presence):
                // It may have been cancelled by the bytes behind it.
                guard session.begins(sequence) else { continue }
                describe(&request, loop)
                countRequest(loop)
                loop.counters.http2.requests.increase()
                if let response = loop.hand(
                    request, connection: key, sequence: sequence, presence: presence)
                {
                    answer(sequence, response, session, loop)
                }
            case .refusal(let sequence, let error):
                if error == .requestTimeout {
                    loop.counters.timeouts.increase()
                } else {
                    loop.counters.protocolErrors.increase()
                }
                answer(sequence, loop.settings.errorResponse(error), session, loop)
            }
        }
    }

    func answer(_ sequence: UInt64, _ response: HTTPResponse, _ session: HTTP2Session, _ loop: EventLoop) {
        session.now = loop.now
        let leftOut = session.respond(sequence, response, date: loop.dateField)
        if leftOut > 0 { loop.counters.fieldsLeftOut.increase(by: leftOut) }
    }

    /// Sends frames as far as the session has them and the peer takes them.
    func writeFrames(_ session: HTTP2Session, _ loop: EventLoop) {
        session.now = loop.now
        if loop.isDraining { session.beginEnd() }
        // 16 times 64 KiB: then other connections have their turn.
        var turns = 16
        while phase == .open || phase == .finishing {
            // More only once the peer has taken all: what is here is not sorted by urgency any more.
            if unsentByteCount == 0 {
                loop.lendOutput(&output)
                session.send(into: &output, limit: min(loop.settings.limits.unsentBytesMax, 65_536))
                if output.isEmpty { recycleOutput(loop) }
            }
            if phase == .open, session.isFinished {
                session.leave()
                phase = .finishing
                lingers = !hasPeerEnded
            }
            flush(loop)
            guard phase == .open || phase == .finishing, unsentByteCount == 0, session.wantsToSend else {
                return
            }
            turns -= 1
            guard turns > 0 else { return loop.schedule(self) }
        }
    }

    func nextDeadline(_ session: HTTP2Session, _ loop: EventLoop) -> UInt64 {
        let times = loop.settings.times
        var next = session.nextDeadline(times)
        if unsentByteCount > 0 { next = min(next, blockedSince &+ times.write) }
        if phase == .open, session.isIdle, !session.scanner.isInHeaderBlock {
            next = min(next, session.idleSince &+ (requestCount == 0 ? times.head : times.idle))
        }
        return next
    }

    /// A time-out has come: of the connection, or of some of its streams.
    func expire(_ session: HTTP2Session, _ loop: EventLoop) {
        session.now = loop.now
        let times = loop.settings.times
        let ended = session.expire(times)
        loop.counters.timeouts.increase(by: ended)
        handOut(session, loop)
        if session.isIdle, !session.scanner.isInHeaderBlock,
            loop.now >= session.idleSince &+ (requestCount == 0 ? times.head : times.idle)
        {
            session.announceEnd()
        }
        loop.touch(self)
    }
}
