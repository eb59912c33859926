/// Byte classes of the HTTP grammar (RFC 9110 §5.6.2, RFC 3986 §2) and comparisons without case.
enum ASCII {
    static let lineFeed: UInt8 = 0x0A
    static let carriageReturn: UInt8 = 0x0D
    static let space: UInt8 = 0x20
    static let tab: UInt8 = 0x09
    static let colon: UInt8 = 0x3A
    static let semicolon: UInt8 = 0x3B
    static let comma: UInt8 = 0x2C
    static let slash: UInt8 = 0x2F
    static let questionMark: UInt8 = 0x3F
    static let dot: UInt8 = 0x2E
    static let leftBracket: UInt8 = 0x5B
    static let rightBracket: UInt8 = 0x5D
    static let asterisk: UInt8 = 0x2A
    static let percent: UInt8 = 0x25
    static let backslash: UInt8 = 0x5C

    /// tchar: letters, digits and !#$%&'*+-.^_`|~
    @inline(__always)
    static func isToken(_ byte: UInt8) -> Bool {
        contains(byte, low: 0x03FF_6CFA_0000_0000, high: 0x57FF_FFFF_C7FF_FFFE)
    }

    /// What a host name may hold: unreserved, sub-delims and "%".
    @inline(__always)
    static func isHostName(_ byte: UInt8) -> Bool {
        contains(byte, low: 0x2BFF_7FF2_0000_0000, high: 0x47FF_FFFE_87FF_FFFE)
    }

    /// What an IPv6 address may hold.
    @inline(__always)
    static func isHexadecimalOrColonOrDot(_ byte: UInt8) -> Bool {
        hexadecimal(byte) != nil || byte == colon || byte == dot
    }

    /// What a request target may hold: visible characters except "#".
    @inline(__always)
    static func isTarget(_ byte: UInt8) -> Bool { byte > 0x20 && byte < 0x7F && byte != 0x23 }

    /// What a field value may hold: visible characters, space, tab and bytes from 0x80.
    @inline(__always)
    static func isFieldValue(_ byte: UInt8) -> Bool { byte >= 0x20 ? byte != 0x7F : byte == tab }

    @inline(__always)
    static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

    /// The value of a hexadecimal digit, or nil.
    @inline(__always)
    static func hexadecimal(_ byte: UInt8) -> UInt8? {
        if isDigit(byte) { return byte &- 0x30 }
        let letter = (byte | 0x20) &- 0x61
        return letter < 6 ? letter &+ 10 : nil
    }

    @inline(__always)
    static func lowercased(_ byte: UInt8) -> UInt8 { byte &- 0x41 < 26 ? byte | 0x20 : byte }

    /// Two 64-bit masks: one bit for each ASCII character.
    @inline(__always)
    private static func contains(_ byte: UInt8, low: UInt64, high: UInt64) -> Bool {
        byte < 0x80 && ((byte < 0x40 ? low : high) &>> UInt64(byte & 0x3F)) & 1 == 1
    }
}

extension Span<UInt8> {
    /// Equal but for the case of ASCII letters.
    func equalsIgnoringCase(_ text: String) -> Bool {
        let other = text.utf8.span
        guard other.count == count else { return false }
        for position in indices where ASCII.lowercased(self[position]) != ASCII.lowercased(other[position]) {
            return false
        }
        return true
    }
}
