/// The header block of one answer: names in lower case, nothing that an application passes can break it.
struct HTTP2Block {
    struct Field {
        var nameStart, nameEnd, valueStart, valueEnd: Int
        /// Worth remembering for later answers.
        var isIndexed: Bool
    }

    private(set) var bytes: [UInt8] = []
    private(set) var fields: [Field] = []
    private(set) var hasContent = true

    init() {
        bytes.reserveCapacity(320)
        fields.reserveCapacity(12)
    }

    mutating func add(_ name: String, _ value: some Collection<UInt8>, isIndexed: Bool = true) {
        let nameStart = bytes.count
        for byte in name.utf8 { bytes.append(ASCII.lowercased(byte)) }
        let nameEnd = bytes.count
        bytes.append(contentsOf: value)
        fields.append(
            .init(
                nameStart: nameStart, nameEnd: nameEnd, valueStart: nameEnd, valueEnd: bytes.count,
                isIndexed: isIndexed))
    }

    mutating func add(_ name: String, _ value: String, isIndexed: Bool = true) {
        add(name, value.utf8, isIndexed: isIndexed)
    }

    /// The block of `response`, and how many fields had to be left out; `date` is a whole Date field of
    /// HTTP/1.
    static func response(_ response: HTTPResponse, date: [UInt8]) -> (block: HTTP2Block, leftOut: Int) {
        var block = HTTP2Block()
        let status = 200...599 ~= response.status ? response.status : 500
        block.add(":status", String(status))
        // Without "Date: " and CR LF.
        block.add("date", date.dropFirst(6).dropLast(2))
        var leftOut = 0
        for (name, value) in response.allHeaders {
            guard HTTP1Writer.isAllowed(name, value), !isForHTTP1(name) else {
                leftOut += 1
                continue
            }
            block.add(name, trimmed(value), isIndexed: !isUnique(name))
        }
        // RFC 9110 §8.6: no Content-Length in 204; RFC 9110 §15.4.5: a 304 has no content.
        block.hasContent = status != 204 && status != 304
        if block.hasContent { block.add("content-length", String(response.body.count)) }
        return (block, leftOut)
    }

    /// White space around a value is not part of it, and malformed here (RFC 9113 §8.2.1).
    private static func trimmed(_ value: String) -> Substring.UTF8View {
        var value = value[...].utf8
        while let first = value.first, first == ASCII.space || first == ASCII.tab { value.removeFirst() }
        while let last = value.last, last == ASCII.space || last == ASCII.tab { value.removeLast() }
        return value
    }

    /// Fields of an HTTP/1 connection, malformed here (RFC 9113 §8.2.2).
    private static func isForHTTP1(_ name: String) -> Bool {
        let name = name.utf8.span
        return switch name.count {
        case 7: name.equalsIgnoringCase("upgrade")
        case 10: name.equalsIgnoringCase("keep-alive")
        case 16: name.equalsIgnoringCase("proxy-connection")
        default: false
        }
    }

    /// Fields that differ in every answer: they would push the others out of the peer's table.
    private static func isUnique(_ name: String) -> Bool {
        let name = name.utf8.span
        return switch name.count {
        case 11: name.equalsIgnoringCase("traceparent")
        case 12: name.equalsIgnoringCase("x-request-id")
        default: false
        }
    }
}
