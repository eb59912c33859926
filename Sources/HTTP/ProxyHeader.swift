/// The header with which a proxy tells for whom it speaks: PROXY protocol version 2 (HAProxy,
/// proxy-protocol.txt §2.2). Version 1, which is text, is refused.
struct ProxyHeader: Equatable {
    enum Outcome: Equatable {
        case partial
        /// The header, and how many bytes it took.
        case complete(ProxyHeader, consumed: Int)
        case malformed
    }

    /// The client's address; nil when the proxy speaks for itself (LOCAL) or does not say (AF_UNSPEC,
    /// AF_UNIX).
    var source: NetworkAddress?

    /// Most bytes after the first 16: addresses, and additions (TLVs) that are skipped.
    static let bytesMax = 4_096

    private static let signature: [UInt8] = [
        0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
    ]

    /// Present all bytes from the start of the connection, again with more after `.partial`.
    static func parse(_ bytes: Span<UInt8>) -> Outcome {
        for position in 0..<min(bytes.count, signature.count) where bytes[position] != signature[position] {
            return .malformed
        }
        if bytes.count > 12, bytes[12] != 0x20, bytes[12] != 0x21 { return .malformed }
        // Family and transport; only what a stream comes with.
        if bytes.count > 13, ![0x00, 0x11, 0x21, 0x31].contains(bytes[13]) { return .malformed }
        guard bytes.count >= 16 else { return .partial }
        let length = Int(bytes[14]) << 8 | Int(bytes[15])
        let family = bytes[13] >> 4
        let isLocal = bytes[12] == 0x20
        let least = isLocal ? 0 : [0, 12, 36, 216][Int(family)]
        guard least...bytesMax ~= length else { return .malformed }
        guard bytes.count >= 16 + length else { return .partial }
        var header = ProxyHeader()
        if !isLocal, family == 1 {
            header.source = NetworkAddress(ipv4: UInt32(truncatingIfNeeded: number(bytes, at: 16, count: 4)))
        } else if !isLocal, family == 2 {
            header.source = NetworkAddress(
                high: number(bytes, at: 16, count: 8), low: number(bytes, at: 24, count: 8))
        }
        return .complete(header, consumed: 16 + length)
    }

    private static func number(_ bytes: Span<UInt8>, at start: Int, count: Int) -> UInt64 {
        var number: UInt64 = 0
        for position in start..<start + count { number = number << 8 | UInt64(bytes[position]) }
        return number
    }
}
