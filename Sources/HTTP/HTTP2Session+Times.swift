// The times of a session, in monotonic nanoseconds: each stream has those of an HTTP/1 request.
extension HTTP2Session {
    /// When `expire` has something to do; never, as long as nothing depends on the peer.
    func nextDeadline(_ times: HTTPTimes) -> UInt64 {
        var next = UInt64.max
        if scanner.isInHeaderBlock { next = blockSince &+ times.head }
        if case .noticed(let since) = ending { next = min(next, since &+ times.drainIdle) }
        for case let stream? in streams { next = min(next, deadline(of: stream, times)) }
        return next
    }

    private func deadline(of stream: HTTP2Stream, _ times: HTTPTimes) -> UInt64 {
        switch stream.phase {
        case .body:
            // The whole body in its time, and never slower than the least rate, unless it may not be faster.
            let perByte = 1_000_000_000 / UInt64(limits.bodyBytesPerSecondMin)
            let earned = times.bodyGrace &+ UInt64(stream.body.count) &* perByte
            return stream.since &+ (stream.heldByteCount > 0 ? times.body : min(times.body, earned))
        case .answering: return stream.since &+ times.write
        case .lingering: return stream.since &+ times.linger
        // Also where the last frame of the block never becomes whole.
        case .head: return stream.since &+ times.head
        // Up to handlers.
        case .atWork, .cancelled: return .max
        }
    }

    /// Ends what has taken too long by now; returns how many streams were cut for not taking their answers.
    ///
    /// A body that is late becomes an arrival: a refusal.
    func expire(_ times: HTTPTimes) -> Int {
        var cut = 0
        if scanner.isInHeaderBlock, now >= blockSince &+ times.head { calmDown(.timeout) }
        if case .noticed(let since) = ending, now >= since &+ times.drainIdle { announceEnd() }
        for slot in streams.indices {
            guard let stream = streams[slot], now >= deadline(of: stream, times) else { continue }
            stream.since = now
            switch stream.phase {
            case .head: calmDown(.timeout)
            case .body: refuse(slot, .requestTimeout)
            // The rest of the request is not wanted (RFC 9113 §8.1).
            case .lingering: submitReset(stream.id, .none)
            default:
                cut += 1
                submitReset(stream.id, .cancel)
            }
        }
        return cut
    }
}
