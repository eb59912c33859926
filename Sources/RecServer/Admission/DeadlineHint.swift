/// The `deadline_ms` of a body that has not been decoded: what waiting is worth must be known before.
///
/// Only a hint: the decoder has the last word on whether the body is one, and on the deadline. The name in
/// its quotes cannot be part of a JSON string, where they would be escaped; a member of this name in
/// another object is taken for it.
enum DeadlineHint {
    /// Bytes that are looked at, at the body's beginning and at its end.
    static let reach = 1024

    private static let name = Array("\"deadline_ms\"".utf8)

    /// Nanoseconds, where the body names a deadline in its range near its beginning or its end.
    static func nanoseconds(_ body: [UInt8]) -> UInt64? {
        let milliseconds =
            body.count <= 2 * reach
            ? value(in: body[...]) : value(in: body.suffix(reach)) ?? value(in: body.prefix(reach))
        return milliseconds.map { UInt64($0) * 1_000_000 }
    }

    private static func value(in bytes: ArraySlice<UInt8>) -> Int? {
        var place = bytes.startIndex
        while let quote = bytes[place...].firstIndex(of: 0x22) {
            let end = quote + name.count
            guard end < bytes.endIndex else { return nil }
            // The second letter tells it from most names.
            if bytes[quote + 1] == name[1], bytes[quote..<end].elementsEqual(name),
                let value = number(bytes[end...])
            {
                return value
            }
            place = quote + 1
        }
        return nil
    }

    /// The number behind a colon.
    private static func number(_ bytes: ArraySlice<UInt8>) -> Int? {
        func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D }
        var rest = bytes.drop(while: isSpace)
        guard rest.popFirst() == 0x3A else { return nil }
        rest = rest.drop(while: isSpace)
        let digits = rest.prefix(6).prefix { (0x30...0x39).contains($0) }
        // A number may go on where the sight ends.
        guard digits.endIndex < rest.endIndex else { return nil }
        let value = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
        return RecommendRequest.Limits.deadlineMilliseconds.contains(value) ? value : nil
    }
}
