public import Artifacts

/// Finds a string's position in a list: open addressing over the list's own bytes, 4 bytes a slot, no object
/// per string.
///
/// Frozen, shared by all threads.
public struct StringTable: Sendable {
    private let strings: StringList
    private let slots: [UInt32]  // position + 1, 0 when empty; a power of two, at most half full
    private let seed: UInt64
    /// For every position the first with the same text: its own, unless the list repeats itself.
    public let firsts: [UInt32]
    /// A position whose text an earlier one has, if any.
    public let repeated: Int?

    /// A table of `strings`, at most 2³¹ of them.
    /// - Parameter seed: hidden from callers, so that nobody can choose strings that collide.
    public init(_ strings: StringList, seed: UInt64 = UInt64.random(in: .min ... .max)) {
        self.strings = strings
        self.seed = seed
        var size = 16
        while size < strings.count * 2 { size *= 2 }
        var slots = [UInt32](repeating: 0, count: size)
        var firsts: [UInt32] = []
        firsts.reserveCapacity(strings.count)
        var repeated: Int?
        for position in 0..<strings.count {
            let text = strings.utf8(position)
            var slot = Int(truncatingIfNeeded: Self.hash(text.span, seed: seed)) & (size - 1)
            var first = position
            while slots[slot] != 0 {
                let other = Int(slots[slot]) - 1
                if strings.byteCount(other) == text.count, strings.utf8(other).elementsEqual(text) {
                    first = other
                    break
                }
                slot = (slot + 1) & (size - 1)
            }
            if first == position {
                slots[slot] = UInt32(position + 1)
            } else {
                repeated = repeated ?? position
            }
            firsts.append(UInt32(first))
        }
        self.slots = slots
        self.firsts = firsts
        self.repeated = repeated
    }

    /// The first position of `text`, nil when the list has it not.
    public func position(of text: String) -> Int? { position(of: text.utf8Span.span) }

    /// The first position of a UTF-8 text.
    public func position(of text: Span<UInt8>) -> Int? {
        var slot = Int(truncatingIfNeeded: Self.hash(text, seed: seed)) & (slots.count - 1)
        while slots[slot] != 0 {
            let candidate = Int(slots[slot]) - 1
            if strings.byteCount(candidate) == text.count, Self.equal(strings.utf8(candidate).span, text) {
                return candidate
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    private static func equal(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Bool {
        for i in 0..<b.count where a[i] != b[i] { return false }
        return true
    }

    /// Eight bytes a step through a full-width multiplication whose halves are folded, as wyhash does.
    private static func hash(_ text: Span<UInt8>, seed: UInt64) -> UInt64 {
        var h = seed ^ (UInt64(text.count) &* 0x9E37_79B9_7F4A_7C15)
        var i = 0
        while i < text.count {
            var word: UInt64 = 0
            let end = min(i + 8, text.count)
            while i < end {
                word = word << 8 | UInt64(text[i])
                i += 1
            }
            let product = (h ^ word ^ 0xE703_7ED1_A0B4_28DB).multipliedFullWidth(
                by: seed | 0x8EBC_6AF0_9C88_C6E3)
            h = product.high ^ product.low
        }
        let last = (h ^ 0x5899_65CC_7537_4CC3).multipliedFullWidth(by: 0x1D8E_4E27_C47D_124F)
        return last.high ^ last.low
    }
}
