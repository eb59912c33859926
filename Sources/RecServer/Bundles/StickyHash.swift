/// A hash that is the same in every process and release, for sampling that sticks to an id.
enum StickyHash {
    /// A number in 0..<1 from `text`; different purposes are independent of each other.
    static func fraction(of text: String, for purpose: UInt64) -> Double {
        Double(bits(of: text, for: purpose) >> 11) * 0x1p-53
    }

    /// All bits.
    static func bits(of text: String, for purpose: UInt64) -> UInt64 {
        // FNV-1a, and SplitMix64's finaliser because FNV's high bits are poor for short texts.
        var z: UInt64 = 0xCBF2_9CE4_8422_2325 ^ purpose
        for byte in text.utf8 { z = (z ^ UInt64(byte)) &* 0x100_0000_01B3 }
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
