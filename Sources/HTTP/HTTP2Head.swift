/// The header block of one HTTP/2 request (RFC 9113 §8.3), held to the rules of an HTTP/1 head.
///
/// The protocol library has checked the order and the characters of the fields; what it lets pass and
/// `HTTP1Head` would not is refused here with the same error.
struct HTTP2Head {
    private var bytes: [UInt8] = []
    private var fields: [HTTPHeaders.Field] = []
    private var method = 0..<0
    private var path = 0..<0
    private var hasHost = false
    private var cookieCount = 0
    /// Sizes as RFC 9113 §6.5.2 counts them: 32 bytes more for each field.
    private var listByteCount = 0
    private var failure: HTTPProtocolError?
    private(set) var contentLength: Int?
    private(set) var expectsContinue = false

    mutating func add(_ name: Span<UInt8>, _ value: Span<UInt8>, _ limits: HTTPLimits) {
        guard failure == nil else { return }
        if bytes.isEmpty {
            bytes.reserveCapacity(256)
            fields.reserveCapacity(16)
        }
        failure =
            name.count > 0 && name[0] == ASCII.colon
            ? addPseudoField(name, value, limits) : addField(name, value, limits)
    }

    private mutating func addPseudoField(
        _ name: Span<UInt8>, _ value: Span<UInt8>, _ limits: HTTPLimits
    ) -> HTTPProtocolError? {
        if name.equals(":authority") {
            hasHost = true
            return value.isHost ? append("host".utf8.span, value, limits) : .malformedHost
        }
        // As if it stood in a request line: `method SP target SP HTTP/1.1`.
        guard method.count + path.count + value.count + 10 <= limits.requestLineBytesMax else {
            return .targetTooLong
        }
        if name.equals(":method") {
            // 32: longer than any registered method.
            if value.count > 32 || value.equals("CONNECT") { return .unknownMethod }
            for position in value.indices where !ASCII.isToken(value[position]) {
                return .malformedRequestLine
            }
            method = store(value)
        } else if name.equals(":path") {
            for position in value.indices where !ASCII.isTarget(value[position]) { return .malformedTarget }
            path = store(value)
        } else if name.equals(":scheme") {
            guard value.equalsIgnoringCase("http") || value.equalsIgnoringCase("https") else {
                return .malformedTarget
            }
        }
        return nil
    }

    private mutating func addField(
        _ name: Span<UInt8>, _ value: Span<UInt8>, _ limits: HTTPLimits
    ) -> HTTPProtocolError? {
        switch name.count {
        case 4 where name.equals("host"):
            // Beside :authority it may only repeat it.
            if hasHost { return repeatsHost(value) ? nil : .malformedHost }
            hasHost = true
            guard value.isHost else { return .malformedHost }
        case 6 where name.equals("cookie"): cookieCount += 1
        case 6 where name.equals("expect"):
            guard value.equalsIgnoringCase("100-continue") else { return .unknownExpectation }
            expectsContinue = true
        case 14 where name.equals("content-length"):
            guard contentLength == nil, let length = value.decimal else { return .malformedContentLength }
            contentLength = length
        default: break
        }
        return append(name, value, limits)
    }

    private func repeatsHost(_ value: Span<UInt8>) -> Bool {
        guard let host = fields.first else { return false }
        let first = bytes.span.extracting(host.value)
        guard first.count == value.count else { return false }
        for position in value.indices
        where ASCII.lowercased(first[position]) != ASCII.lowercased(value[position]) {
            return false
        }
        return true
    }

    private mutating func append(
        _ name: Span<UInt8>, _ value: Span<UInt8>, _ limits: HTTPLimits
    ) -> HTTPProtocolError? {
        listByteCount += name.count + value.count + 32
        guard fields.count < limits.headerCountMax, listByteCount <= limits.headerBytesMax else {
            return .headersTooLarge
        }
        let name = store(name)
        let value = store(value)
        fields.append(HTTPHeaders.Field(name: name, value: value))
        return nil
    }

    private mutating func store(_ text: Span<UInt8>) -> Range<Int> {
        let start = bytes.count
        bytes.append(copying: text)
        return start..<bytes.count
    }

    /// Whether the answer is to have no content.
    var isHEAD: Bool { bytes.span.extracting(method).equals("HEAD") }

    /// The request of the whole block, without a body.
    mutating func request() throws(HTTPProtocolError) -> HTTPRequest {
        if let failure { throw failure }
        let isAsterisk = path.count == 1 && bytes[path.lowerBound] == ASCII.asterisk
        let name = String(decoding: bytes[method], as: UTF8.self)
        guard !path.isEmpty, bytes[path.lowerBound] == ASCII.slash || isAsterisk && name == "OPTIONS" else {
            throw .malformedTarget
        }
        guard hasHost else { throw .malformedHost }
        if cookieCount > 1 { joinCookies() }
        var end = path.lowerBound
        while end < path.upperBound, bytes[end] != ASCII.questionMark { end += 1 }
        guard bytes.span.extracting(path.lowerBound..<end).isPlainPath else { throw .malformedTarget }
        let query = end < path.upperBound ? bytes[end + 1..<path.upperBound] : nil
        return HTTPRequest(
            method: name, path: String(decoding: bytes[path.lowerBound..<end], as: UTF8.self),
            query: query.map { String(decoding: $0, as: UTF8.self) },
            headers: HTTPHeaders(head: bytes, fields: fields), peer: "", isLoopback: false, version: .http2)
    }

    /// Cookie may come in crumbs, one field each; the application gets one (RFC 9113 §8.2.3).
    private mutating func joinCookies() {
        var joined: [UInt8] = []
        var first: Int?
        var kept: [HTTPHeaders.Field] = []
        for field in fields {
            guard bytes.span.extracting(field.name).equals("cookie") else {
                kept.append(field)
                continue
            }
            if first == nil {
                first = kept.count
                kept.append(field)
            } else {
                joined.append("; ")
            }
            joined.append(contentsOf: bytes[field.value])
        }
        guard let first else { return }
        kept[first].value = bytes.count..<bytes.count + joined.count
        bytes += joined
        fields = kept
    }
}
