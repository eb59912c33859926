import CNGHTTP2

@testable import HTTP

/// Frames of a client, written by hand: header blocks are literals without indexing or Huffman coding.
enum HTTP2Wire {
    static let preface = HTTP2FrameScanner.preface
    static let hello = preface + frame(4)

    static func frame(_ type: UInt8, _ flags: UInt8 = 0, _ stream: UInt32 = 0, _ payload: [UInt8] = [])
        -> [UInt8]
    {
        var bytes = big(UInt32(payload.count)).dropFirst() + [type, flags]
        bytes += big(stream)
        return Array(bytes) + payload
    }

    static func big(_ number: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
    }

    static func block(_ fields: [(String, String)]) -> [UInt8] {
        fields.flatMap { [0] + text($0.0) + text($0.1) }
    }

    private static func text(_ text: String) -> [UInt8] {
        var length: [UInt8] = []
        var rest = text.utf8.count
        if rest < 127 {
            length = [UInt8(rest)]
        } else {
            rest -= 127
            length = [127]
            while rest >= 128 {
                length.append(UInt8(rest % 128) | 128)
                rest /= 128
            }
            length.append(UInt8(rest))
        }
        return length + Array(text.utf8)
    }

    static func fields(_ path: String, method: String = "GET", _ more: [(String, String)] = []) -> [(
        String, String
    )] {
        [(":method", method), (":path", path), (":scheme", "http"), (":authority", "a")] + more
    }

    /// HEADERS with all of its block; ends the stream unless a body follows.
    static func headers(_ stream: UInt32, _ fields: [(String, String)], ends: Bool = true) -> [UInt8] {
        frame(1, ends ? 5 : 4, stream, block(fields))
    }

    static func get(_ stream: UInt32, _ path: String = "/", _ more: [(String, String)] = []) -> [UInt8] {
        headers(stream, fields(path, more))
    }

    static func data(_ stream: UInt32, _ bytes: [UInt8], ends: Bool = false) -> [UInt8] {
        frame(0, ends ? 1 : 0, stream, bytes)
    }

    static func reset(_ stream: UInt32, _ code: UInt32 = 8) -> [UInt8] { frame(3, 0, stream, big(code)) }
    static func ping(_ payload: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8], acknowledges: Bool = false) -> [UInt8] {
        frame(6, acknowledges ? 1 : 0, 0, payload)
    }
    static func window(_ stream: UInt32, _ increment: UInt32) -> [UInt8] {
        frame(8, 0, stream, big(increment))
    }
    static func setting(_ identifier: UInt16, _ value: UInt32) -> [UInt8] {
        frame(4, 0, 0, [UInt8(identifier >> 8), UInt8(identifier & 0xFF)] + big(value))
    }
}

/// What a client makes of the server's bytes.
@safe final class HTTP2Reader {
    struct Frame {
        var type: UInt8
        var flags: UInt8
        var stream: UInt32
        var payload: [UInt8]
        /// Of HEADERS.
        var fields: [(name: String, value: String)] = []

        /// The error code of RST_STREAM and GOAWAY.
        var code: UInt32? {
            switch type {
            case 3: number(at: 0)
            case 7: number(at: 4)
            default: nil
            }
        }

        func number(at start: Int) -> UInt32 {
            payload[start..<start + 4].reduce(0) { $0 << 8 | UInt32($1) }
        }

        func value(_ name: String) -> String? { fields.first { $0.name == name }?.value }
    }

    private var pending: [UInt8] = []
    private let inflater: OpaquePointer
    private(set) var frames: [Frame] = []

    init() {
        var made: OpaquePointer?
        unsafe nghttp2_hd_inflate_new(&made)
        unsafe inflater = made!
    }

    deinit { unsafe nghttp2_hd_inflate_del(inflater) }

    func take(_ bytes: [UInt8]) {
        pending += bytes
        while pending.count >= 9 {
            let length = Int(pending[0]) << 16 | Int(pending[1]) << 8 | Int(pending[2])
            guard pending.count >= 9 + length else { return }
            var frame = Frame(
                type: pending[3], flags: pending[4],
                stream: pending[5..<9].reduce(0) { $0 << 8 | UInt32($1) } & 0x7FFF_FFFF,
                payload: Array(pending[9..<9 + length]))
            if frame.type == 1 { frame.fields = inflate(frame.payload) }
            frames.append(frame)
            pending.removeFirst(9 + length)
        }
    }

    private func inflate(_ block: [UInt8]) -> [(name: String, value: String)] {
        var fields: [(name: String, value: String)] = []
        var start = 0
        while true {
            var field = unsafe nghttp2_nv()
            var flags: Int32 = 0
            let count = unsafe block.withUnsafeBufferPointer {
                unsafe nghttp2_hd_inflate_hd2(
                    inflater, &field, &flags, $0.baseAddress! + start, $0.count - start, 1)
            }
            guard count >= 0 else { return [("broken", "")] }
            start += count
            if UInt32(flags) & NGHTTP2_HD_INFLATE_EMIT.rawValue != 0 {
                let name = unsafe UnsafeBufferPointer(start: field.name, count: field.namelen)
                let value = unsafe UnsafeBufferPointer(start: field.value, count: field.valuelen)
                unsafe fields.append(
                    (String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
            }
            if UInt32(flags) & NGHTTP2_HD_INFLATE_FINAL.rawValue != 0 {
                unsafe nghttp2_hd_inflate_end_headers(inflater)
                return fields
            }
        }
    }

    // MARK: - Answers

    func status(_ stream: UInt32) -> Int? {
        let statuses = frames.filter { $0.type == 1 && $0.stream == stream }.compactMap {
            $0.value(":status")
        }
        return statuses.last.flatMap { Int($0) }
    }

    func body(_ stream: UInt32) -> [UInt8] {
        frames.filter { $0.type == 0 && $0.stream == stream }.flatMap(\.payload)
    }

    func hasEnded(_ stream: UInt32) -> Bool {
        frames.contains { $0.stream == stream && $0.type <= 1 && $0.flags & 1 != 0 }
    }

    func reset(_ stream: UInt32) -> UInt32? { frames.last { $0.type == 3 && $0.stream == stream }?.code }

    /// Last stream and error code of the last GOAWAY.
    var goAway: (stream: UInt32, code: UInt32)? {
        frames.last { $0.type == 7 }.map { ($0.number(at: 0), $0.number(at: 4)) }
    }

    func windowUpdates(_ stream: UInt32) -> UInt32 {
        frames.filter { $0.type == 8 && $0.stream == stream }.reduce(0) { $0 + $1.number(at: 0) }
    }
}

/// A session and a client that reads all it sends.
final class HTTP2Pair {
    let session: HTTP2Session
    let reader = HTTP2Reader()
    let counters = HTTP2LoopCounters()
    /// Requests and refusals that have not been answered, in order.
    var arrivals: [HTTP2Session.Arrival] = []
    static let date = Array("Date: Sat, 21 Nov 2026 08:05:14 GMT\r\n".utf8)

    init(greets: Bool = true, _ change: (inout HTTPLimits) -> Void = { _ in }) {
        var limits = HTTPLimits()
        change(&limits)
        session = HTTP2Session(limits: limits, counters: counters, now: 1_000)!
        if greets { send(HTTP2Wire.hello) }
    }

    /// Delivers a client's bytes, and the session's to the client.
    func send(_ bytes: [UInt8]...) {
        for bytes in bytes {
            session.receive(bytes.span)
            arrivals += session.arrivals
            session.arrivals = []
        }
        flush()
    }

    func flush(limit: Int = 65_536) {
        while true {
            var output: [UInt8] = []
            session.send(into: &output, limit: limit)
            if output.isEmpty { return }
            reader.take(output)
        }
    }

    /// Answers the oldest arrival and returns what it was.
    @discardableResult
    func answer(_ response: HTTPResponse = HTTPResponse(status: 200)) -> HTTP2Session.Arrival? {
        guard !arrivals.isEmpty else { return nil }
        let arrival = arrivals.removeFirst()
        switch arrival {
        case .request(let sequence, _, _): _ = session.respond(sequence, response, date: Self.date)
        case .refusal(let sequence, let error):
            _ = session.respond(sequence, .problem(error), date: Self.date)
        }
        flush()
        return arrival
    }

    var requests: [HTTPRequest] {
        arrivals.compactMap { if case .request(_, let request, _) = $0 { request } else { nil } }
    }

    var refusals: [HTTPProtocolError] {
        arrivals.compactMap { if case .refusal(_, let error) = $0 { error } else { nil } }
    }

    var presences: [Presence] {
        arrivals.compactMap { if case .request(_, _, let presence) = $0 { presence } else { nil } }
    }
}
