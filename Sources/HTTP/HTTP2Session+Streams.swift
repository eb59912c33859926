/// The error codes of RFC 9113 §7 that the server sends.
enum HTTP2Error: UInt32 {
    case none = 0x0
    case protocolError = 0x1
    case internalError = 0x2
    case refusedStream = 0x7
    case cancel = 0x8
    case enhanceYourCalm = 0xB
}

/// The header of a frame.
struct HTTP2Frame {
    enum Kind: UInt8 {
        case data = 0x0
        case headers = 0x1
        case reset = 0x3
        case ping = 0x6
    }

    var type: Kind?
    var streamID: Int32
    var length: Int
    var endsStream: Bool
    var isAcknowledgement: Bool
}

/// One stream: a request and its answer.
final class HTTP2Stream {
    enum Phase {
        case head
        case body
        /// A handler has the request, or the HTTP layer's refusal is on its way.
        case atWork
        case answering
        /// Answered before the request was whole: its rest is dropped for a while.
        case lingering
        /// The stream has gone, its handler works on: the entry stays, so that nobody gets more work done by
        /// cancelling than by waiting.
        case cancelled
    }

    let id: Int32
    var phase = Phase.head
    var head = HTTP2Head()
    var request: HTTPRequest?
    var presence: Presence?
    /// The peer has ended its side.
    var isComplete = false
    var isHEAD = false
    var owesContinue = false
    var body: [UInt8] = []
    var bodyBytesMax = 0
    /// Bytes received for which the stream's window has not been opened again.
    var heldByteCount = 0
    var answer: [UInt8] = []
    var sentByteCount = 0
    /// When the phase began.
    var since: UInt64

    init(id: Int32, since: UInt64) {
        self.id = id
        self.since = since
    }
}

// What the frames mean: header blocks and bodies → requests; answers; the ends of streams.
extension HTTP2Session {
    /// Open streams and those whose handlers work on.
    var streamCount: Int { streams.reduce(0) { $0 + ($1 == nil ? 0 : 1) } }

    /// No stream is open.
    var isIdle: Bool { streams.allSatisfy { $0 == nil || $0?.phase == .cancelled } }

    /// Nothing more is taken from the peer.
    var isDeaf: Bool {
        switch ending {
        case .terminated, .failed: true
        case .none, .noticed, .announced: false
        }
    }

    var hasFailed: Bool { if case .failed = ending { true } else { false } }

    // MARK: - Header blocks

    func beginBlock(_ streamID: Int32, isRequest: Bool) {
        blockByteCount = 0
        currentSlot = nil
        guard isRequest else { return }
        guard let slot = freeSlot() else {
            counters.streamsRefused.increase()
            return submitReset(streamID, .refusedStream)
        }
        streams[slot] = HTTP2Stream(id: streamID, since: now)
        remember(slot, of: streamID)
        currentSlot = slot
    }

    private func freeSlot() -> Int? {
        if let slot = streams.firstIndex(where: { $0 == nil }) { return slot }
        guard streams.count < limits.http2StreamsMax else { return nil }
        streams.append(nil)
        return streams.count - 1
    }

    func addField(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        blockByteCount += name.count + value.count + 32
        // A block that is a little too large is answered 431; one that unpacks to so much more is an attack.
        if blockByteCount > 4 * (limits.headerBytesMax + limits.requestLineBytesMax) { calmDown(.headers) }
        guard !isDeaf, let currentSlot else { return }
        streams[currentSlot]?.head.add(name, value, limits)
    }

    func didReceive(_ frame: HTTP2Frame) {
        switch frame.type {
        case .headers: endBlock(frame)
        case .data: if frame.endsStream, let slot = slot(of: frame.streamID) { endBody(slot) }
        case .reset: didReset(frame.streamID)
        case .ping: if frame.isAcknowledgement, case .noticed = ending { announceEnd() }
        case nil: break
        }
    }

    private func endBlock(_ frame: HTTP2Frame) {
        guard let slot = currentSlot, let stream = streams[slot], stream.id == frame.streamID else {
            // Trailers: checked and dropped.
            if frame.endsStream, let slot = slot(of: frame.streamID) { endBody(slot) }
            return
        }
        currentSlot = nil
        stream.isComplete = frame.endsStream
        do throws(HTTPProtocolError) {
            try beginBody(stream)
            if frame.endsStream { complete(slot) } else if stream.owesContinue { continues.append(slot) }
        } catch {
            refuse(slot, error)
        }
    }

    private func beginBody(_ stream: HTTP2Stream) throws(HTTPProtocolError) {
        stream.isHEAD = stream.head.isHEAD
        let request = try stream.head.request()
        let length = stream.head.contentLength
        stream.bodyBytesMax = limits.bodyBytesMax(path: request.path)
        if let length, length > stream.bodyBytesMax { throw .bodyTooLarge }
        if !stream.isComplete {
            stream.phase = .body
            stream.since = now
            // 64 KiB: what the window lets come; more only once it has really arrived.
            stream.body.reserveCapacity(min(length ?? 0, 65_536))
            stream.owesContinue = stream.head.expectsContinue
        }
        stream.request = request
        stream.head = HTTP2Head()
    }

    // MARK: - Bodies

    func addBody(_ streamID: Int32, _ bytes: Span<UInt8>) {
        openConnectionWindow(bytes.count)
        guard let slot = slot(of: streamID), let stream = streams[slot], stream.phase == .body else { return }
        guard bytes.count <= stream.bodyBytesMax - stream.body.count else {
            return refuse(slot, .bodyTooLarge)
        }
        stream.body.append(copying: bytes)
        stream.heldByteCount += bytes.count
        bufferedByteCount += bytes.count
        openWindow(stream)
    }

    /// Lets the peer send more of the body, unless bodies take too much room: then only the oldest goes on.
    private func openWindow(_ stream: HTTP2Stream) {
        guard stream.heldByteCount > 0 else { return }
        guard bufferedByteCount <= limits.http2BodyBytesMax || isOldestBody(stream.id) else {
            hasHeldBodies = true
            return
        }
        openStreamWindow(stream.id, stream.heldByteCount)
        stream.heldByteCount = 0
    }

    private func isOldestBody(_ streamID: Int32) -> Bool {
        !streams.contains { $0.map { $0.phase == .body && $0.id < streamID } ?? false }
    }

    /// The body is kept here no longer: others may grow.
    private func leaveBody(_ stream: HTTP2Stream) {
        guard stream.phase == .body else { return }
        bufferedByteCount -= stream.body.count
        stream.phase = .atWork
        guard hasHeldBodies else { return }
        hasHeldBodies = false
        for case let other? in streams where other.phase == .body { openWindow(other) }
    }

    private func endBody(_ slot: Int) {
        guard let stream = streams[slot] else { return }
        stream.isComplete = true
        guard stream.phase == .body else { return }
        leaveBody(stream)
        complete(slot)
    }

    // MARK: - Requests

    private func complete(_ slot: Int) {
        guard let stream = streams[slot], var request = stream.request.take() else { return }
        let presence = Presence()
        swap(&request.body, &stream.body)
        stream.phase = .atWork
        stream.presence = presence
        requestCount += 1
        arrivals.append(.request(sequence: sequence(slot, stream), request, presence))
        if requestCount == limits.requestsPerConnectionMax { beginEnd() }
    }

    func refuse(_ slot: Int, _ error: HTTPProtocolError) {
        guard let stream = streams[slot] else { return }
        leaveBody(stream)
        stream.phase = .atWork
        stream.body = []
        stream.request = nil
        stream.head = HTTP2Head()
        arrivals.append(.refusal(sequence: sequence(slot, stream), error))
    }

    /// What an exchange is known by: the entry, and the stream that held it.
    private func sequence(_ slot: Int, _ stream: HTTP2Stream) -> UInt64 {
        UInt64(slot) << 32 | UInt64(UInt32(bitPattern: stream.id))
    }

    // MARK: - Answers

    /// Whether the work for `sequence` should begin; if not, nothing is kept of it.
    func begins(_ sequence: UInt64) -> Bool {
        guard let slot = workingSlot(sequence), let stream = streams[slot] else { return false }
        if stream.phase == .cancelled { free(slot) }
        return stream.phase == .atWork
    }

    private func workingSlot(_ sequence: UInt64) -> Int? {
        let slot = Int(sequence >> 32)
        guard slot < streams.count, let stream = streams[slot], self.sequence(slot, stream) == sequence,
            stream.phase == .atWork || stream.phase == .cancelled
        else { return nil }
        return slot
    }

    /// Queues the answer to `sequence`, which nobody may want any more; returns how many fields had to be
    /// left out.
    func respond(_ sequence: UInt64, _ response: HTTPResponse, date: [UInt8]) -> Int {
        guard let slot = workingSlot(sequence), let stream = streams[slot] else { return 0 }
        guard stream.phase == .atWork else {
            free(slot)
            return 0
        }
        let (block, leftOut) = HTTP2Block.response(response, date: date)
        let hasBody = !stream.isHEAD && !response.body.isEmpty && block.hasContent
        stream.phase = .answering
        stream.presence = nil
        stream.since = now
        if hasBody { stream.answer = response.body }
        submit(block, stream.id, slot: slot, hasBody: hasBody)
        if response.closesConnection { beginEnd() }
        return leftOut
    }

    func didSend(_ frame: HTTP2Frame, code: UInt32) {
        switch frame.type {
        case .data, .headers:
            // Who takes content is no idler, whatever windows it opens meanwhile.
            if frame.type == .data { earn(frames: frame.length / 256) }
            guard frame.endsStream, let slot = slot(of: frame.streamID), let stream = streams[slot] else {
                return
            }
            stream.answer = []
            if !stream.isComplete { stream.phase = .lingering }
            stream.since = now
        case .reset:
            guard code != HTTP2Error.none.rawValue, code != HTTP2Error.refusedStream.rawValue,
                slot(of: frame.streamID).map({ streams[$0]?.phase != .lingering }) ?? true
            else { return }
            counters.streamsReset.increase()
            countReset()
        case .ping, nil: break
        }
    }

    // MARK: - Ends of streams

    private func didReset(_ streamID: Int32) {
        guard let slot = slot(of: streamID), streams[slot]?.phase != .lingering else { return }
        counters.streamsCancelled.increase()
        countReset()
    }

    private func countReset() {
        resets += 1
        if resets > limits.http2ResetsMax { calmDown(.resets) }
    }

    private func earn(frames: Int) { idleFrames = max(0, idleFrames - frames) }

    func didClose(_ streamID: Int32, _ code: UInt32) {
        guard let slot = slot(of: streamID), let stream = streams[slot] else { return }
        leaveBody(stream)
        if stream.phase == .lingering || stream.phase == .answering && code == HTTP2Error.none.rawValue {
            earn(frames: 10)
            resets = max(0, resets - 1)
        }
        if let presence = stream.presence.take() {
            presence.leave()
            stream.phase = .cancelled
        } else {
            free(slot)
        }
        if isIdle { idleSince = now }
    }

    private func free(_ slot: Int) {
        streams[slot] = nil
        while let last = streams.last, last == nil { streams.removeLast() }
        if streams.isEmpty, streams.capacity > 8 { streams = [] }
    }

    /// The peer sends no more: what is not whole yet will never be.
    func endInput() {
        for case let stream? in streams where !stream.isComplete && stream.phase != .cancelled {
            submitReset(stream.id, .cancel)
        }
    }

    /// The connection has closed: nobody gets the answers that are awaited.
    func leave() {
        for stream in streams { stream?.presence?.leave() }
        streams = []
        arrivals = []
    }

    // MARK: - The end of the session

    /// Tells the peer to open no more streams; all it has opened are served. Repeated calls do nothing.
    func beginEnd() {
        guard case .none = ending else { return }
        ending = .noticed(since: now)
        submitNotice()
    }

    /// Says which stream is the last one.
    func announceEnd() {
        switch ending {
        case .none, .noticed:
            ending = .announced
            owesLastStream = true
        case .announced, .terminated, .failed: break
        }
    }

    /// Ends the connection of a peer that only makes work.
    func calmDown(_ reason: HTTP2Ending) {
        guard !isDeaf else { return }
        ending = .terminated
        counters.endings.increase(reason)
        submitEnd(.enhanceYourCalm)
    }
}
