import HTTP

/// The trace a request belongs to, from its `traceparent` header (W3C Trace Context §3.2).
struct TraceContext: Sendable, Equatable {
    /// 32 lower-case hexadecimal digits, not all 0.
    let traceID: String
    /// The caller's span: 16 lower-case hexadecimal digits, not all 0.
    let spanID: String
    /// Whether the caller may have recorded its part of the trace.
    let isSampled: Bool
    /// `tracestate` as it came; empty without one, or where it is longer than anybody must pass on.
    var state = ""

    /// More of `tracestate` is left out; 512 must be passed on (§3.3.1.5).
    private static let stateBytes = 2048

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
        spanID = String(fields[2])
        isSampled = (UInt8(fields[3], radix: 16) ?? 0) & 1 == 1
    }

    /// Reads both headers; two of `traceparent` are none, those of `tracestate` are one list.
    init?(_ headers: HTTPHeaders) {
        guard headers.count(of: "traceparent") == 1, let context = Self(headers.first("traceparent")) else {
            return nil
        }
        self = context
        guard headers.count(of: "tracestate") > 0 else { return }
        let state = RequestHeaders.values(of: "tracestate", headers).joined(separator: ",")
        if state.utf8.count <= Self.stateBytes { self.state = state }
    }

    private static func isHexadecimal(_ text: Substring, _ count: Int) -> Bool {
        text.utf8.count == count
            && text.utf8.allSatisfy { byte in
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
            }
    }
}
