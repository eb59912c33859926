#if canImport(HTTP)
    @testable import HTTP
#endif

/// The properties that hold for every input; shared by the tests and the fuzzer.
enum HTTP1Property {
    /// Small limits, so that short inputs reach them.
    static var limits: HTTPLimits {
        var limits = HTTPLimits()
        limits.requestLineBytesMax = 200
        limits.headerBytesMax = 400
        limits.headerCountMax = 12
        limits.bodyBytesMax = 1_000
        limits.chunkExtensionBytesMax = 40
        return limits
    }

    /// What the parser tells about `bytes` presented in pieces of `step` bytes.
    static func story(_ bytes: [UInt8], step: Int, limits: HTTPLimits = limits) -> [String] {
        let parser = HTTP1Parser(limits: limits)
        var pending: [UInt8] = []
        var story: [String] = []
        var start = 0
        while start < bytes.count {
            let end = min(start + step, bytes.count)
            pending += bytes[start..<end]
            start = end
            while true {
                let (event, consumed) = parser.parse(pending.span)
                pending.removeFirst(consumed)
                if event == .request || event == .repeated {
                    story.append(parser.takeRequest().map(describe) ?? "nothing")
                    if !pending.isEmpty { continue }
                } else if case .failure(let error) = event {
                    return story + ["failure \(error)"]
                }
                break
            }
        }
        return story + [pending.isEmpty && !parser.isInBody ? "end" : "partial"]
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

    /// Nil when decoding holds its promises: it never traps, and what is accepted without an escape is
    /// unchanged.
    static func decodingViolation(_ bytes: [UInt8]) -> String? {
        let text = String(decoding: bytes, as: UTF8.self)
        let decoded = PercentDecoding.decode(text)
        _ = QueryString(text).map { $0.parameters.count }
        return text.utf8.contains(0x25) || decoded == text ? nil : "text without escapes was changed"
    }

    /// Nil when an answer made of `bytes` cannot break its framing.
    static func writerViolation(_ bytes: [UInt8]) -> String? {
        let middle = bytes.count / 2
        let name = String(decoding: bytes[0..<middle], as: UTF8.self)
        let value = String(decoding: bytes[middle...], as: UTF8.self)
        var output: [UInt8] = []
        let response = HTTPResponse(status: 200, headers: [(name, value), ("X", value)])
        HTTP1Writer.append(response, .init(), date: Array("Date: x\r\n".utf8), to: &output)
        var lines = 0
        for (position, byte) in output.enumerated() {
            if byte == 0x0A {
                guard position > 0, output[position - 1] == 0x0D else { return "bare LF" }
                lines += 1
            } else if byte == 0x0D {
                guard position + 1 < output.count, output[position + 1] == 0x0A else { return "bare CR" }
            } else if byte < 0x20, byte != 0x09 {
                return "control character"
            }
        }
        return lines <= 6 ? nil : "\(lines) lines"
    }

    private static func describe(_ request: HTTPRequest) -> String {
        let headers = request.headers.all.map { "\($0.name)=\($0.value)" }.joined(separator: ";")
        return
            "\(request.method) \(request.path) \(request.query ?? "-") \(headers) \(String(decoding: request.body, as: UTF8.self)) "
            + "\(request.isKeepAlive) \(request.version)"
    }
}
