/// The trace a request belongs to, from its `traceparent` header (W3C Trace Context §3.2).
struct TraceContext: Sendable, Equatable {
    /// 32 lower-case hexadecimal digits, not all 0.
    let traceID: String

    /// Reads the header's value; nil when it is absent or malformed, since a broken header starts no trace.
    ///
    /// `version "-" trace-id "-" parent-id "-" flags`; version ff is none, and versions after 00 may append
    /// fields.
    init?(_ header: String?) {
        guard let header, header.utf8.count <= 512 else { return nil }
        let fields = header.split(separator: "-", omittingEmptySubsequences: false)
        guard fields.count >= 4, Self.isHexadecimal(fields[0], 2), Self.isHexadecimal(fields[1], 32),
            Self.isHexadecimal(fields[2], 16), Self.isHexadecimal(fields[3], 2)
        else { return nil }
        guard fields[0] != "ff", fields[0] != "00" || fields.count == 4 else { return nil }
        guard fields[1].contains(where: { $0 != "0" }), fields[2].contains(where: { $0 != "0" }) else {
            return nil
        }
        traceID = String(fields[1])
    }

    private static func isHexadecimal(_ text: Substring, _ count: Int) -> Bool {
        text.utf8.count == count
            && text.utf8.allSatisfy { byte in
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
            }
    }
}
