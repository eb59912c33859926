import CNGHTTP2

/// One HTTP/2 connection (RFC 9113): bytes in → requests, answers → bytes out, without I/O, through nghttp2.
///
/// This file is the border to the library; what the streams mean is in `HTTP2Session+Streams.swift`. Lives on
/// its loop's thread.
@safe final class HTTP2Session {
    /// What the bytes received amount to.
    enum Arrival {
        case request(sequence: UInt64, HTTPRequest, Presence)
        /// A request that the HTTP layer refuses; it awaits its answer like any other.
        case refusal(sequence: UInt64, HTTPProtocolError)
    }

    /// How far the end of the connection is.
    enum Ending {
        case none
        /// New streams are unwelcome but still served: the peer may not know yet.
        case noticed(since: UInt64)
        /// No new streams; those there are go on.
        case announced
        /// Nothing more is read.
        case terminated
        /// The library has failed: this GOAWAY is the last word, and nil once it is written.
        case failed(code: UInt32?)
    }

    private let handle: OpaquePointer
    let limits: HTTPLimits
    let counters: HTTP2LoopCounters
    /// Monotonic nanoseconds; set before each call that receives or expires.
    var now: UInt64

    // Streams; see HTTP2Session+Streams.swift.
    var streams: [HTTP2Stream?] = []
    /// The entry whose header block arrives.
    var currentSlot: Int?
    var blockByteCount = 0
    var blockSince: UInt64 = 0
    var arrivals: [Arrival] = []
    /// Entries that wait for 100 Continue.
    var continues: [Int] = []
    /// Bytes of bodies that are not complete.
    var bufferedByteCount = 0
    /// Some windows stay shut because of `bufferedByteCount`.
    var hasHeldBodies = false
    var requestCount = 0
    /// Since when there has been no open stream.
    var idleSince: UInt64

    // Patience
    var scanner = HTTP2FrameScanner()
    var idleFrames = 0
    var resets = 0
    var ending = Ending.none
    /// The last stream is to be announced: it is chosen as the frame is made, until when others may begin.
    var owesLastStream = false

    /// A session that has queued its SETTINGS. Nil without memory.
    init?(limits: HTTPLimits, counters: HTTP2LoopCounters, now: UInt64) {
        var created: OpaquePointer?
        // SAFETY: the library copies the callbacks and reads the options during the call.
        let status = unsafe nghttp2_session_server_new2(
            &created, Library.shared.callbacks, nil, Library.shared.options)
        guard status == 0, let created = unsafe created else { return nil }
        unsafe handle = created
        self.limits = limits
        self.counters = counters
        self.now = now
        idleSince = now
        // SAFETY: the callbacks come only from calls that methods of this object make, which keep it alive.
        unsafe nghttp2_session_set_user_data(handle, Unmanaged.passUnretained(self).toOpaque())
        let settings = [
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue),
                value: UInt32(limits.http2StreamsMax)),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
                value: UInt32(limits.http2StreamWindowBytes)),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue),
                value: UInt32(limits.headerBytesMax + limits.requestLineBytesMax)),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES.rawValue), value: 1),
        ]
        // SAFETY: the library copies the entries during the call.
        unsafe settings.withUnsafeBufferPointer {
            _ = unsafe nghttp2_submit_settings(handle, 0, $0.baseAddress, $0.count)
        }
        _ = unsafe nghttp2_session_set_local_window_size(
            handle, 0, 0, Int32(limits.http2ConnectionWindowBytes))
    }

    deinit { unsafe nghttp2_session_del(handle) }

    // MARK: - Bytes

    /// Takes what the peer has sent, all of it; `arrivals` then holds what it amounts to.
    func receive(_ bytes: Span<UInt8>) {
        var start = 0
        var end = 0
        while !isDeaf {
            let wasInBlock = scanner.isInHeaderBlock
            let weight = scanner.next(bytes, &end)
            if scanner.isInHeaderBlock, !wasInBlock { blockSince = now }
            if let weight {
                idleFrames += weight
                guard idleFrames > limits.http2IdleFramesMax else { continue }
            }
            if start < end { feed(bytes.extracting(start..<end)) }
            start = end
            guard weight != nil else { break }
            calmDown(.frames)
        }
        for slot in continues where slot < streams.count && streams[slot]?.owesContinue == true {
            guard let stream = streams[slot] else { continue }
            stream.owesContinue = false
            if stream.phase == .body, stream.body.isEmpty { submitContinue(stream) }
        }
        continues.removeAll(keepingCapacity: true)
    }

    private func feed(_ bytes: Span<UInt8>) {
        // SAFETY: the library reads the bytes during the call and keeps none of the pointers.
        let taken = unsafe bytes.withUnsafeBufferPointer {
            unsafe nghttp2_session_mem_recv(handle, $0.baseAddress, $0.count)
        }
        if taken < 0 { fail(Int32(clamping: taken)) }
    }

    /// Appends frames to `output` until it holds `limit` bytes, or nothing is left to send now.
    func send(into output: inout [UInt8], limit: Int) {
        if case .failed(let code?) = ending {
            ending = .failed(code: nil)
            output += Self.goAway(code)
        }
        guard !hasFailed else { return }
        if owesLastStream, !isDeaf { submitLastStream() }
        owesLastStream = false
        while output.count < limit {
            var data: UnsafePointer<UInt8>?
            let count = unsafe nghttp2_session_mem_send(handle, &data)
            guard count > 0, let data = unsafe data else {
                if count < 0 { ending = .failed(code: nil) }
                return
            }
            // SAFETY: the library promises `count` bytes there until its next call.
            unsafe output.append(contentsOf: UnsafeBufferPointer(start: data, count: count))
        }
    }

    /// True when frames could be sent now.
    var wantsToSend: Bool {
        if case .failed(let code) = ending { return code != nil }
        return unsafe owesLastStream || nghttp2_session_want_write(handle) != 0
    }

    /// True once nothing will be read or sent any more.
    var isFinished: Bool {
        if case .failed(let code) = ending { return code == nil }
        guard !owesLastStream else { return false }
        return unsafe nghttp2_session_want_read(handle) == 0 && nghttp2_session_want_write(handle) == 0
    }

    // MARK: - Frames to send

    /// The response's header block, and its body from `streams[slot]`, which must hold it.
    func submit(_ block: HTTP2Block, _ streamID: Int32, slot: Int, hasBody: Bool) {
        var provider = unsafe nghttp2_data_provider()
        unsafe provider.source.fd = Int32(slot)
        unsafe provider.read_callback = { _, streamID, buffer, length, flags, source, context in
            guard let session = unsafe HTTP2Session.from(context), let buffer = unsafe buffer,
                let slot = unsafe source?.pointee.fd
            else { return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
            // SAFETY: the library gives `length` writable bytes.
            let target = unsafe UnsafeMutableRawBufferPointer(start: buffer, count: length)
            guard let (count, isLast) = unsafe session.copyBody(Int(slot), streamID, to: target) else {
                return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
            }
            if isLast { unsafe flags?.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
            return count
        }
        // SAFETY: the library copies the fields and the provider during the calls.
        unsafe withFields(block) { fields, count in
            guard hasBody else { return unsafe nghttp2_submit_response(handle, streamID, fields, count, nil) }
            return unsafe withUnsafePointer(to: &provider) {
                unsafe nghttp2_submit_response(handle, streamID, fields, count, $0)
            }
        }
    }

    private func copyBody(
        _ slot: Int, _ streamID: Int32, to target: UnsafeMutableRawBufferPointer
    ) -> (count: Int, isLast: Bool)? {
        guard slot < streams.count, let stream = streams[slot], stream.id == streamID else { return nil }
        let end = min(stream.answer.count, stream.sentByteCount + target.count)
        unsafe stream.answer.withUnsafeBytes {
            // SAFETY: the slice is no longer than `target`.
            unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[stream.sentByteCount..<end]))
        }
        let count = end - stream.sentByteCount
        stream.sentByteCount = end
        return (count, end == stream.answer.count)
    }

    private func submitContinue(_ stream: HTTP2Stream) {
        var block = HTTP2Block()
        block.add(":status", "100")
        unsafe withFields(block) { fields, count in
            unsafe nghttp2_submit_headers(handle, 0, stream.id, nil, fields, count, nil)
        }
    }

    private func withFields(
        _ block: HTTP2Block, _ submit: (UnsafePointer<nghttp2_nv>?, Int) -> Int32
    ) {
        let count = block.fields.count
        unsafe block.bytes.withUnsafeBufferPointer { bytes in
            unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: count) { list in
                // SAFETY: the library only reads through these pointers, during the call.
                guard let base = unsafe UnsafeMutablePointer(mutating: bytes.baseAddress) else { return }
                for (index, field) in block.fields.enumerated() {
                    unsafe list.initializeElement(
                        at: index,
                        to: nghttp2_nv(
                            name: base + field.nameStart, value: base + field.valueStart,
                            namelen: field.nameEnd - field.nameStart,
                            valuelen: field.valueEnd - field.valueStart,
                            flags: UInt8(
                                field.isIndexed
                                    ? NGHTTP2_NV_FLAG_NONE.rawValue : NGHTTP2_NV_FLAG_NO_INDEX.rawValue)))
                }
                _ = unsafe submit(list.baseAddress, count)
            }
        }
    }

    func submitReset(_ streamID: Int32, _ code: HTTP2Error) {
        _ = unsafe nghttp2_submit_rst_stream(handle, 0, streamID, code.rawValue)
    }

    /// The first half of a graceful end: GOAWAY with the highest identifier, and a PING whose answer tells
    /// that the peer has seen it.
    func submitNotice() {
        _ = unsafe nghttp2_submit_shutdown_notice(handle)
        _ = unsafe nghttp2_submit_ping(handle, 0, nil)
    }

    /// The second half: GOAWAY with the last stream that is served.
    func submitLastStream() {
        _ = unsafe nghttp2_submit_goaway(
            handle, 0, nghttp2_session_get_last_proc_stream_id(handle), HTTP2Error.none.rawValue, nil, 0)
    }

    /// GOAWAY, and the end of everything.
    func submitEnd(_ code: HTTP2Error) {
        _ = unsafe nghttp2_session_terminate_session(handle, code.rawValue)
    }

    func openConnectionWindow(_ count: Int) { _ = unsafe nghttp2_session_consume_connection(handle, count) }

    func openStreamWindow(_ streamID: Int32, _ count: Int) {
        _ = unsafe nghttp2_session_consume_stream(handle, streamID, count)
    }

    private static func goAway(_ code: UInt32) -> [UInt8] {
        var frame: [UInt8] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        for shift in [24, 16, 8, 0] { frame.append(UInt8(truncatingIfNeeded: code >> UInt32(shift))) }
        return frame
    }

    private func fail(_ status: Int32) {
        switch status {
        case NGHTTP2_ERR_FLOODED.rawValue, NGHTTP2_ERR_TOO_MANY_CONTINUATIONS.rawValue:
            counters.endings.increase(.frames)
            ending = .failed(code: HTTP2Error.enhanceYourCalm.rawValue)
        case NGHTTP2_ERR_NOMEM.rawValue: ending = .failed(code: HTTP2Error.internalError.rawValue)
        default:
            counters.endings.increase(.protocolError)
            ending = .failed(code: HTTP2Error.protocolError.rawValue)
        }
    }

    // MARK: - Entries of streams, kept with the library as 1 more than their place

    func remember(_ slot: Int, of streamID: Int32) {
        // SAFETY: a number, never followed as a pointer.
        _ = unsafe nghttp2_session_set_stream_user_data(
            handle, streamID, UnsafeMutableRawPointer(bitPattern: slot + 1))
    }

    func slot(of streamID: Int32) -> Int? {
        let number = unsafe Int(bitPattern: nghttp2_session_get_stream_user_data(handle, streamID)) - 1
        guard number >= 0, number < streams.count, streams[number]?.id == streamID else { return nil }
        return number
    }

    // MARK: - Callbacks

    private static func from(_ context: UnsafeMutableRawPointer?) -> HTTP2Session? {
        // SAFETY: the pointer set in init; the object is alive as its method is running.
        unsafe context.map { unsafe Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
    }

    /// What all sessions share; made once and never changed.
    @safe
    private final class Library: @unchecked Sendable {  // Frozen: only read after init.
        static let shared = Library()

        let callbacks: OpaquePointer?
        let options: OpaquePointer?

        private init() {
            var made: OpaquePointer?
            unsafe nghttp2_session_callbacks_new(&made)
            unsafe callbacks = made
            var chosen: OpaquePointer?
            unsafe nghttp2_option_new(&chosen)
            unsafe options = chosen
            // Windows open as bodies are taken, not as they arrive.
            unsafe nghttp2_option_set_no_auto_window_update(options, 1)
            unsafe nghttp2_option_set_no_closed_streams(options, 1)
            unsafe nghttp2_option_set_max_outbound_ack(options, 100)
            // The library counts a CONTINUATION again each time it gets a part of its header; `scanner` does
            // not.
            unsafe nghttp2_option_set_max_continuations(options, 1_000_000)
            unsafe setHeaderCallbacks(callbacks)
            unsafe setFrameCallbacks(callbacks)
        }

        private func setHeaderCallbacks(_ callbacks: OpaquePointer?) {
            unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, context in
                guard let session = unsafe HTTP2Session.from(context), let frame = unsafe frame?.pointee
                else { return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue }
                session.beginBlock(
                    unsafe frame.hd.stream_id, isRequest: unsafe frame.headers.cat == NGHTTP2_HCAT_REQUEST)
                return 0
            }
            unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks) {
                _, _, name, nameCount, value, valueCount, _, context in
                guard let session = unsafe HTTP2Session.from(context) else {
                    return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
                }
                // SAFETY: the library promises these bytes for the time of the call.
                let name = unsafe UnsafeBufferPointer(start: name, count: nameCount)
                let value = unsafe UnsafeBufferPointer(start: value, count: valueCount)
                unsafe session.addField(name.span, value.span)
                return 0
            }
            // By default the library would drop such a field and go on.
            unsafe nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks) {
                _, _, _, _, _, _, _, _ in
                NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
            }
        }

        private func setFrameCallbacks(_ callbacks: OpaquePointer?) {
            unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
                _, _, streamID, data, count, context in
                guard let session = unsafe HTTP2Session.from(context) else {
                    return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
                }
                // SAFETY: the library promises these bytes for the time of the call.
                unsafe session.addBody(streamID, UnsafeBufferPointer(start: data, count: count).span)
                return 0
            }
            unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, context in
                guard let session = unsafe HTTP2Session.from(context), let header = unsafe frame?.pointee.hd
                else { return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue }
                session.didReceive(.init(header))
                return 0
            }
            unsafe nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, context in
                guard let session = unsafe HTTP2Session.from(context), let frame = unsafe frame?.pointee
                else { return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue }
                let isReset = unsafe UInt32(frame.hd.type) == NGHTTP2_RST_STREAM.rawValue
                let code = isReset ? unsafe frame.rst_stream.error_code : 0
                session.didSend(.init(unsafe frame.hd), code: code)
                return 0
            }
            unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) {
                _, streamID, code, context in
                guard let session = unsafe HTTP2Session.from(context) else {
                    return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
                }
                session.didClose(streamID, code)
                return 0
            }
        }
    }
}

extension HTTP2Frame {
    fileprivate init(_ header: nghttp2_frame_hd) {
        self.init(
            type: Kind(rawValue: header.type), streamID: header.stream_id, length: header.length,
            endsStream: UInt32(header.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0,
            isAcknowledgement: UInt32(header.flags) & NGHTTP2_FLAG_ACK.rawValue != 0)
    }
}
