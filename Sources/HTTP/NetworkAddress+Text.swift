extension NetworkAddress {
    /// The address that `text` is: dotted IPv4 without leading zeros, or IPv6 as RFC 4291 §2.2 writes it;
    /// nil for anything else, also with a port, brackets or a zone.
    public init?(_ text: some StringProtocol) {
        // 45: the longest, with an IPv4 tail.
        guard text.utf8.count <= 45 else { return nil }
        if text.utf8.contains(ASCII.colon) {
            guard let groups = Self.groups(Substring(text)) else { return nil }
            func word(_ groups: ArraySlice<UInt16>) -> UInt64 { groups.reduce(0) { $0 << 16 | UInt64($1) } }
            self.init(high: word(groups[0..<4]), low: word(groups[4..<8]))
        } else {
            guard let ipv4 = Self.dotted(Substring(text)) else { return nil }
            self.init(ipv4: ipv4)
        }
    }

    private static func dotted(_ text: Substring) -> UInt32? {
        let parts = text.utf8.split(separator: ASCII.dot, omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var number: UInt32 = 0
        for part in parts {
            guard 1...3 ~= part.count, part.count == 1 || part.first != 0x30 else { return nil }
            var byte: UInt32 = 0
            for digit in part {
                guard ASCII.isDigit(digit) else { return nil }
                byte = byte * 10 + UInt32(digit - 0x30)
            }
            guard byte <= 255 else { return nil }
            number = number << 8 | byte
        }
        return number
    }

    /// The eight groups of an IPv6 address.
    private static func groups(_ text: Substring) -> [UInt16]? {
        var halves = [text]
        var position = text.startIndex
        while position < text.endIndex {
            if text[position...].hasPrefix("::") {
                halves = [text[..<position], text[text.index(position, offsetBy: 2)...]]
                break
            }
            position = text.index(after: position)
        }
        guard let head = pieces(halves[0], isLast: halves.count == 1) else { return nil }
        guard halves.count == 2 else { return head.count == 8 ? head : nil }
        guard let tail = pieces(halves[1], isLast: true), head.count + tail.count <= 7 else { return nil }
        return head + [UInt16](repeating: 0, count: 8 - head.count - tail.count) + tail
    }

    /// Groups between colons; the last one of an address may be IPv4.
    private static func pieces(_ text: Substring, isLast: Bool) -> [UInt16]? {
        guard !text.isEmpty else { return [] }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 8 else { return nil }
        var groups: [UInt16] = []
        for (index, part) in parts.enumerated() {
            if isLast, index == parts.count - 1, part.utf8.contains(ASCII.dot) {
                guard let ipv4 = dotted(part) else { return nil }
                groups += [UInt16(truncatingIfNeeded: ipv4 >> 16), UInt16(truncatingIfNeeded: ipv4)]
                continue
            }
            guard 1...4 ~= part.utf8.count else { return nil }
            var group: UInt16 = 0
            for byte in part.utf8 {
                guard let digit = ASCII.hexadecimal(byte) else { return nil }
                group = group << 4 | UInt16(digit)
            }
            groups.append(group)
        }
        return groups
    }
}
