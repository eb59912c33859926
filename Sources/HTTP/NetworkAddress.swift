/// An IPv4 or IPv6 address; IPv4 is kept as `::ffff:a.b.c.d`, so that a client is the same on every socket.
public struct NetworkAddress: Hashable, Sendable {
    /// The first 8 bytes, as a number.
    let high: UInt64
    /// The last 8 bytes, as a number.
    let low: UInt64

    init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The four bytes of an IPv4 address, as a number.
    init(ipv4: UInt32) { self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(ipv4)) }

    /// The four bytes as a number, where it is an IPv4 address.
    var ipv4: UInt32? { high == 0 && low >> 32 == 0xFFFF ? UInt32(truncatingIfNeeded: low) : nil }

    /// 127.0.0.0/8 or ::1.
    var isLoopback: Bool {
        if let ipv4 { return ipv4 >> 24 == 127 }
        return high == 0 && low == 1
    }
}

extension NetworkAddress: CustomStringConvertible {
    /// Dotted, or as RFC 5952 writes IPv6.
    public var description: String {
        if let ipv4 { return "\(ipv4 >> 24).\(ipv4 >> 16 & 0xFF).\(ipv4 >> 8 & 0xFF).\(ipv4 & 0xFF)" }
        let groups = (0..<8).map { group -> UInt64 in
            let half = group < 4 ? high : low
            return half >> (48 - group % 4 * 16) & 0xFFFF
        }
        // The longest run of two or more zero groups, the first of equals, becomes "::".
        var longest = 0..<0
        var start = 0
        for position in 0...8 where position == 8 || groups[position] != 0 {
            if position - start > max(longest.count, 1) { longest = start..<position }
            start = position + 1
        }
        func text(_ range: Range<Int>) -> String {
            groups[range].map { String($0, radix: 16) }.joined(separator: ":")
        }
        if longest.isEmpty { return text(0..<8) }
        return text(0..<longest.lowerBound) + "::" + text(longest.upperBound..<8)
    }
}
