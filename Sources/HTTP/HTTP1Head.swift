/// The request line and the header fields of one HTTP/1 request: a strict line machine (RFC 9112 §2–§5).
///
/// Sans-I/O: the caller presents all bytes since the start of the request, again with more after `.partial`;
/// complete lines are examined once.
struct HTTP1Head {
    enum Outcome: Equatable {
        case partial
        /// The number of bytes of the head.
        case complete(Int)
        case failure(HTTPProtocolError)
    }

    enum Framing: Equatable {
        case length(Int)
        case chunked
    }

    private(set) var fields: [HTTPHeaders.Field] = []
    private(set) var method = 0..<0
    private(set) var path = 0..<0
    private(set) var query: Range<Int>?
    private(set) var isHTTP10 = false
    private(set) var expectsContinue = false
    private var hosts = 0
    /// The position of Host in `fields`.
    private var hostField = 0
    /// The authority of a target in absolute form: it counts instead of Host.
    private var authority: Range<Int>?
    private var contentLength: Int?
    private var transferEncodings = 0
    private var saysClose = false
    private var saysKeepAlive = false

    private var lineStart = 0
    private var scanned = 0
    private var fieldsStart: Int?

    /// Ready for the next request; the fields' memory is kept unless somebody still holds it.
    mutating func reset() {
        var next = HTTP1Head()
        swap(&next.fields, &fields)
        next.fields.removeAll(keepingCapacity: true)
        self = next
    }

    var framing: Framing { transferEncodings > 0 ? .chunked : .length(contentLength ?? 0) }
    var isKeepAlive: Bool { !saysClose && (!isHTTP10 || saysKeepAlive) }

    mutating func parse(_ bytes: Span<UInt8>, _ limits: HTTPLimits) -> Outcome {
        if scanned == 0, bytes.count > 0, !ASCII.isToken(bytes[0]) { return .failure(.malformedRequestLine) }
        while true {
            scanned = bytes.lineFeed(from: scanned)
            if let failure = exceededLimit(end: scanned, limits) { return .failure(failure) }
            guard scanned < bytes.count else { return .partial }
            let end = scanned - 1
            guard end >= lineStart, bytes[end] == ASCII.carriageReturn else {
                return .failure(.malformedLineEnd)
            }
            let line = lineStart..<end
            scanned += 1
            lineStart = scanned
            let failure: HTTPProtocolError?
            if fieldsStart == nil {
                failure = parseRequestLine(bytes, line)
                fieldsStart = scanned
            } else if line.isEmpty {
                if let failure = checkWhole() { return .failure(failure) }
                // RFC 9112 §3.2.2: what Host says is ignored.
                if let authority, hosts == 1 {
                    fields[hostField].value = authority
                }
                return .complete(scanned)
            } else if fields.count >= limits.headerCountMax {
                failure = .headersTooLarge
            } else {
                failure = parseField(bytes, line)
            }
            if let failure { return .failure(failure) }
        }
    }

    /// `end` is where the present line ends or, without a line end yet, where the bytes end.
    private func exceededLimit(end: Int, _ limits: HTTPLimits) -> HTTPProtocolError? {
        guard let fieldsStart else {
            // One more byte may be the CR of a line of exactly the limit.
            return end - lineStart > limits.requestLineBytesMax + 1 ? .targetTooLong : nil
        }
        // The empty line that ends the head (CR here) does not count.
        return end - fieldsStart > limits.headerBytesMax + 1 ? .headersTooLarge : nil
    }

    // MARK: - Request line

    private mutating func parseRequestLine(_ bytes: Span<UInt8>, _ line: Range<Int>) -> HTTPProtocolError? {
        var position = line.lowerBound
        while position < line.upperBound, ASCII.isToken(bytes[position]) { position += 1 }
        method = line.lowerBound..<position
        guard !method.isEmpty, position < line.upperBound, bytes[position] == ASCII.space else {
            return .malformedRequestLine
        }
        let targetStart = position + 1
        position = targetStart
        while position < line.upperBound, bytes[position] != ASCII.space {
            guard ASCII.isTarget(bytes[position]) else { return .malformedTarget }
            position += 1
        }
        guard position > targetStart, position < line.upperBound else { return .malformedRequestLine }
        if let failure = parseVersion(bytes.extracting(position + 1..<line.upperBound)) { return failure }
        // 32: longer than any registered method.
        if method.count > 32 || method.count == 7 && bytes.extracting(method).equals("CONNECT") {
            return .unknownMethod
        }
        return parseTarget(bytes, targetStart..<position)
    }

    private mutating func parseVersion(_ version: Span<UInt8>) -> HTTPProtocolError? {
        guard version.count == 8 else { return .malformedRequestLine }
        switch version.word(at: 0) {
        case 0x312E_312F_5054_5448: return nil  // HTTP/1.1
        case 0x302E_312F_5054_5448:  // HTTP/1.0
            isHTTP10 = true
            return nil
        default:
            let isVersion =
                version.extracting(0..<5).equals("HTTP/") && ASCII.isDigit(version[5])
                && version[6] == ASCII.dot && ASCII.isDigit(version[7])
            return isVersion ? .unknownVersion : .malformedRequestLine
        }
    }

    /// origin-form, absolute-form or "*" for OPTIONS.
    private mutating func parseTarget(_ bytes: Span<UInt8>, _ target: Range<Int>) -> HTTPProtocolError? {
        var start = target.lowerBound
        if bytes[start] == ASCII.asterisk, target.count == 1 {
            path = target
            return bytes.extracting(method).equals("OPTIONS") ? nil : .malformedTarget
        }
        if bytes[start] != ASCII.slash {
            guard let authority = authorityStart(bytes.extracting(target)) else { return .malformedTarget }
            start += authority
            let hostStart = start
            while start < target.upperBound, bytes[start] != ASCII.slash, bytes[start] != ASCII.questionMark {
                start += 1
            }
            guard bytes.extracting(hostStart..<start).isHost else { return .malformedTarget }
            self.authority = hostStart..<start
        }
        var end = start
        while end < target.upperBound, bytes[end] != ASCII.questionMark { end += 1 }
        path = start..<end
        guard bytes.extracting(path).isPlainPath else { return .malformedTarget }
        if end < target.upperBound { query = end + 1..<target.upperBound }
        return nil
    }

    private func authorityStart(_ target: Span<UInt8>) -> Int? {
        if target.count > 7, target.extracting(0..<7).equalsIgnoringCase("http://") { return 7 }
        if target.count > 8, target.extracting(0..<8).equalsIgnoringCase("https://") { return 8 }
        return nil
    }

    // MARK: - Fields

    private mutating func parseField(_ bytes: Span<UInt8>, _ line: Range<Int>) -> HTTPProtocolError? {
        var position = line.lowerBound
        while position < line.upperBound, ASCII.isToken(bytes[position]) { position += 1 }
        let name = line.lowerBound..<position
        // Also refuses white space before the colon, and folded lines, which begin with white space.
        guard !name.isEmpty, position < line.upperBound, bytes[position] == ASCII.colon else {
            return .malformedHeader
        }
        var start = position + 1
        var end = line.upperBound
        if let outside = bytes.extracting(start..<end).firstOutsideFieldValue {
            return bytes[start + outside] == ASCII.carriageReturn ? .malformedLineEnd : .malformedHeader
        }
        while start < end, bytes[start] == ASCII.space || bytes[start] == ASCII.tab { start += 1 }
        while end > start, bytes[end - 1] == ASCII.space || bytes[end - 1] == ASCII.tab { end -= 1 }
        fields.append(HTTPHeaders.Field(name: name, value: start..<end))
        return interpret(bytes.extracting(name), bytes.extracting(start..<end))
    }

    /// The five fields that frame the message.
    private mutating func interpret(_ name: Span<UInt8>, _ value: Span<UInt8>) -> HTTPProtocolError? {
        switch name.count {
        case 4 where name.equalsIgnoringCase("host"):
            hosts += 1
            hostField = fields.count - 1
            guard hosts == 1 else { return .malformedHost }
            guard value.isHost else { return .malformedHost }
        case 6 where name.equalsIgnoringCase("expect"):
            guard value.equalsIgnoringCase("100-continue") else { return .unknownExpectation }
            expectsContinue = true
        case 10 where name.equalsIgnoringCase("connection"):
            if value.hasToken("close") { saysClose = true }
            if value.hasToken("keep-alive") { saysKeepAlive = true }
        case 14 where name.equalsIgnoringCase("content-length"):
            guard contentLength == nil, let length = value.decimal else { return .malformedContentLength }
            contentLength = length
        case 17 where name.equalsIgnoringCase("transfer-encoding"):
            transferEncodings += 1
            guard transferEncodings == 1 else { return .malformedTransferEncoding }
            if !value.equalsIgnoringCase("chunked") { return transferCodingFailure(value) }
        default: break
        }
        return nil
    }

    /// RFC 9112 §6.1: 400 when `chunked` is not last, or is repeated; 501 when something unknown precedes it.
    private func transferCodingFailure(_ value: Span<UInt8>) -> HTTPProtocolError {
        var codings = 0
        var chunked = 0
        var isLastChunked = false
        value.forEachToken { token in
            codings += 1
            isLastChunked = token.equalsIgnoringCase("chunked")
            if isLastChunked { chunked += 1 }
        }
        return chunked == 1 && isLastChunked && codings > 1
            ? .unknownTransferCoding : .malformedTransferEncoding
    }

    private func checkWhole() -> HTTPProtocolError? {
        if hosts == 0, !isHTTP10 { return .malformedHost }
        if transferEncodings > 0 {
            if contentLength != nil { return .conflictingFraming }
            if isHTTP10 { return .malformedTransferEncoding }
        }
        return nil
    }
}

extension Span<UInt8> {
    /// Equal byte for byte.
    func equals(_ text: String) -> Bool {
        let other = text.utf8.span
        guard other.count == count else { return false }
        for position in indices where self[position] != other[position] { return false }
        return true
    }

    /// `host [":" port]` of RFC 3986 §3.2, the host not empty: an address in brackets, or a name.
    var isHost: Bool {
        guard count > 0 else { return false }
        var position = 0
        if self[0] == ASCII.leftBracket {
            position = 1
            while position < count, ASCII.isHexadecimalOrColonOrDot(self[position]) { position += 1 }
            guard position > 1, position < count, self[position] == ASCII.rightBracket else { return false }
            position += 1
        } else {
            while position < count, ASCII.isHostName(self[position]) { position += 1 }
            guard position > 0 else { return false }
        }
        if position == count { return true }
        guard self[position] == ASCII.colon else { return false }
        for digit in position + 1..<count where !ASCII.isDigit(self[digit]) { return false }
        return true
    }

    /// False for what some servers read in another way than others: segments that are "." or "..", "\\", and
    /// a "%" without two hexadecimal digits (RFC 3986 §2.1, §5.2.4). Escaped dots are data.
    var isPlainPath: Bool {
        var position = 0
        while position < count {
            switch self[position] {
            case ASCII.percent:
                guard position + 2 < count, ASCII.hexadecimal(self[position + 1]) != nil,
                    ASCII.hexadecimal(self[position + 2]) != nil
                else { return false }
            case ASCII.backslash: return false
            case ASCII.dot where position > 0 && self[position - 1] == ASCII.slash:
                let isDouble = position + 1 < count && self[position + 1] == ASCII.dot
                let next = position + (isDouble ? 2 : 1)
                if next == count || self[next] == ASCII.slash { return false }
            default: break
            }
            position += 1
        }
        return true
    }

    /// A number of 1 to 18 decimal digits and nothing else.
    var decimal: Int? {
        guard count >= 1, count <= 18 else { return nil }
        var number = 0
        for position in indices {
            guard ASCII.isDigit(self[position]) else { return nil }
            number = number &* 10 &+ Int(self[position] &- 0x30)
        }
        return number
    }

    /// Calls `body` with each element of a comma-separated list, without the white space around it.
    func forEachToken(_ body: (Span<UInt8>) -> Void) {
        var start = 0
        while start <= count {
            var end = start
            while end < count, self[end] != ASCII.comma { end += 1 }
            var first = start
            var last = end
            while first < last, self[first] == ASCII.space || self[first] == ASCII.tab { first += 1 }
            while last > first, self[last - 1] == ASCII.space || self[last - 1] == ASCII.tab { last -= 1 }
            body(extracting(first..<last))
            start = end + 1
        }
    }

    /// True when the comma-separated list has the element `text`, without regard to case.
    func hasToken(_ text: String) -> Bool {
        if equalsIgnoringCase(text) { return true }
        var found = false
        forEachToken { if $0.equalsIgnoringCase(text) { found = true } }
        return found
    }
}
