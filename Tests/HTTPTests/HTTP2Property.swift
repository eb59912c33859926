#if canImport(HTTP)
    @testable import HTTP
#endif

/// The properties that hold for every sequence of frames; shared by the tests and the fuzzer.
enum HTTP2Property {
    /// Small limits, so that short inputs reach them.
    static var limits: HTTPLimits {
        var limits = HTTPLimits()
        limits.requestLineBytesMax = 200
        limits.headerBytesMax = 800
        limits.headerCountMax = 12
        limits.bodyBytesMax = 1_000
        limits.http2StreamsMax = 5
        limits.http2IdleFramesMax = 60
        limits.http2ResetsMax = 4
        limits.http2BodyBytesMax = 300
        limits.requestsPerConnectionMax = 20
        return limits
    }

    private static let date = Array("Date: x\r\n".utf8)

    private static func session() -> HTTP2Session? {
        HTTP2Session(limits: limits, counters: HTTP2LoopCounters(), now: 1)
    }

    /// A fuzzer's bytes as a client's: an even first byte is followed by frames in short, each of type,
    /// flags, stream, length and payload; an odd one by frames as they are. The second byte is the fuzzer's.
    static func input(_ bytes: [UInt8]) -> [UInt8] {
        let greeting = HTTP2FrameScanner.preface + [0, 0, 0, 4, 0, 0, 0, 0, 0]
        let rest = bytes.dropFirst(2)
        guard let first = bytes.first, first % 2 == 0 else { return greeting + rest }
        var input = greeting
        var position = rest.startIndex
        while position + 4 <= rest.endIndex {
            let payload = rest[(position + 4)...].prefix(Int(rest[position + 3]))
            input += [0, 0, UInt8(payload.count), rest[position] % 11, rest[position + 1], 0, 0, 0]
            input += [rest[position + 2]] + payload
            position += 4 + payload.count
        }
        return input
    }

    /// What a session that is never answered tells about `bytes` presented in pieces of `step` bytes.
    static func story(_ bytes: [UInt8], step: Int) -> [String] {
        guard let session = session() else { return ["no memory"] }
        var start = 0
        while start < bytes.count {
            let end = min(start + step, bytes.count)
            session.receive(Array(bytes[start..<end]).span)
            start = end
        }
        var story = session.arrivals.map { arrival -> String in
            switch arrival {
            case .request(_, let request, _): return describe(request)
            case .refusal(_, let error): return "refused \(error)"
            }
        }
        story.append(session.isDeaf ? "deaf" : session.scanner.isInHeaderBlock ? "in block" : "listens")
        story.append("\(session.streamCount) streams")
        return story
    }

    static func describe(_ request: HTTPRequest) -> String {
        let headers = request.headers.all.map { "\($0.name.lowercased())=\($0.value)" }.joined(separator: ";")
        return "\(request.method) \(request.path) \(request.query ?? "-") \(headers) "
            + String(decoding: request.body, as: UTF8.self)
    }

    /// Nil when the bytes tell the same story cut into pieces of each of `steps`, else what differs.
    static func violation(_ bytes: [UInt8], steps: [Int] = [1, 2, 7, 64]) -> String? {
        let whole = story(bytes, step: max(bytes.count, 1))
        for step in steps {
            let cut = story(bytes, step: step)
            if cut != whole { return "step \(step): \(cut) instead of \(whole)" }
        }
        return nil
    }

    /// Nil when a session that is answered, after `delay` further pieces, keeps its limits.
    static func serviceViolation(_ bytes: [UInt8], step: Int, delay: Int) -> String? {
        guard let session = session() else { return nil }
        var waiting: [UInt64] = []
        var start = 0
        while start < bytes.count || !waiting.isEmpty {
            let end = min(start + step, bytes.count)
            if start < end { session.receive(Array(bytes[start..<end]).span) }
            start = end
            for arrival in session.arrivals {
                switch arrival {
                case .request(let sequence, _, _): if session.begins(sequence) { waiting.append(sequence) }
                case .refusal(let sequence, let error):
                    _ = session.respond(sequence, .problem(error), date: date)
                }
            }
            session.arrivals = []
            while let first = waiting.first, waiting.count > delay || start >= bytes.count {
                let body = [UInt8](repeating: 0x61, count: Int(first % 7) * 5_000)
                _ = session.respond(first, HTTPResponse(status: 200, body: body), date: date)
                waiting.removeFirst()
            }
            if let violation = outputViolation(session) { return violation }
            if session.streamCount > limits.http2StreamsMax { return "too many streams" }
            if session.bufferedByteCount < 0 { return "bodies of less than no bytes" }
            session.now &+= 1_000_000
            _ = session.expire(times)
        }
        session.leave()
        return session.isIdle ? nil : "left, but not idle"
    }

    private static var times: HTTPTimes {
        var limits = limits
        limits.headTimeout = .milliseconds(20)
        limits.bodyTimeout = .milliseconds(50)
        limits.bodyRateGrace = .milliseconds(10)
        limits.writeTimeout = .milliseconds(30)
        limits.drainIdleGrace = .milliseconds(5)
        limits.lingerTimeout = .milliseconds(5)
        return HTTPTimes(limits)
    }

    /// The output is whole frames, not much longer than asked for.
    private static func outputViolation(_ session: HTTP2Session) -> String? {
        var output: [UInt8] = []
        session.send(into: &output, limit: 4_096)
        guard output.count < 4_096 + 16_393 else { return "\(output.count) bytes at once" }
        var start = 0
        while start + 9 <= output.count {
            start += 9 + (Int(output[start]) << 16 | Int(output[start + 1]) << 8 | Int(output[start + 2]))
        }
        return start == output.count ? nil : "half a frame"
    }
}
