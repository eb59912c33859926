import Synchronization

/// Ids that are unique in this process and, with 64 random bits from its start, in practice everywhere; no
/// system call each.
final class IdentifierSource: Sendable {
    private let prefix = UInt64.random(in: .min ... .max)
    private let salt = UInt64.random(in: .min ... .max)
    private let count = Atomic<UInt64>(0)

    /// 16 hexadecimal digits, not all 0: as unlikely to be somewhere else as so few can be.
    func nextSpan() -> String {
        var digits = InlineArray<16, UInt8>(repeating: 0)
        let value = max(scrambledCount(), 1)
        for digit in 0..<16 { digits[digit] = Self.hexadecimal(value, digit) }
        return Self.text(digits.span)
    }

    /// 32 hexadecimal digits: the process, then a scrambled count, so that ids neither repeat nor tell the
    /// traffic.
    func next() -> String {
        var digits = InlineArray<32, UInt8>(repeating: 0)
        let value = scrambledCount()
        for digit in 0..<16 {
            digits[digit] = Self.hexadecimal(prefix, digit)
            digits[digit + 16] = Self.hexadecimal(value, digit)
        }
        return Self.text(digits.span)
    }

    private func scrambledCount() -> UInt64 {
        // SplitMix64's finaliser is a bijection: different counts give different ids.
        var z = count.wrappingAdd(1, ordering: .relaxed).newValue &+ salt
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// The digit of `value` at a position from 0, the highest, to 15.
    @inline(__always)
    private static func hexadecimal(_ value: UInt64, _ position: Int) -> UInt8 {
        let digit = UInt8(truncatingIfNeeded: value &>> UInt64(60 &- 4 &* position)) & 15
        return digit < 10 ? digit &+ 0x30 : digit &+ 0x57
    }

    private static func text(_ digits: Span<UInt8>) -> String {
        // Digits are always valid.
        guard let valid = try? UTF8Span(validating: digits) else { return "" }
        return String(copying: valid)
    }

    /// A client's own id where it is 1…64 of `[A-Za-z0-9-]`, else a new one.
    func requestID(_ offered: String?) -> String {
        guard let offered, (1...64).contains(offered.utf8.count) else { return next() }
        let isPlain = offered.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"):
                true
            default: false
            }
        }
        return isPlain ? offered : next()
    }
}
