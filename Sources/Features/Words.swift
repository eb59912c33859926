internal import RecCore

/// How strings become rows of an embedding table (ModelFormat.md §3.1); row 0 is for what is missing or
/// unknown.
enum Words: Sendable {
    /// Row of each known word, by its UTF-8 bytes: a trainer tells spellings apart that Swift's strings call
    /// equal.
    case vocabulary([[UInt8]: Int])
    /// Row 1 + hash mod `buckets`.
    case hash(buckets: UInt64)

    func row(of text: String) -> Int {
        switch self {
        case .vocabulary(let rows): rows[Array(text.utf8)] ?? 0
        case .hash(let buckets): 1 + Int(fnv1a(text) % buckets)
        }
    }

    /// The row of a single value: a boolean and an integral number read as their text, another number is
    /// unknown.
    func row(of value: FeatureValue) -> Int {
        switch value {
        case .string(let text): row(of: text)
        case .boolean(let flag): row(of: flag ? "true" : "false")
        case .number(let number): decimalDigits(number).map(row) ?? 0
        case .strings: 0
        }
    }
}

/// FNV-1a, 64 bits, over the UTF-8 bytes.
func fnv1a(_ text: String) -> UInt64 {
    var hash: UInt64 = 14_695_981_039_346_656_037
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 1_099_511_628_211 }
    return hash
}

/// The decimal digits of an integral number of any size, nil for another number.
func decimalDigits(_ number: Double) -> String? {
    guard number.isFinite, number == number.rounded(.towardZero) else { return nil }
    if let integer = Int(exactly: number) { return String(integer) }
    // Beyond 2^63: the significand is an integer, doubled exponent − 52 times in base 10^9.
    var limbs: [UInt64] = []
    var rest = number.significandBitPattern | 1 << 52
    while rest > 0 {
        limbs.append(rest % 1_000_000_000)
        rest /= 1_000_000_000
    }
    for _ in 0..<(Int(number.exponent) - 52) {
        var carry: UInt64 = 0
        for i in limbs.indices {
            let doubled = limbs[i] * 2 + carry
            limbs[i] = doubled % 1_000_000_000
            carry = doubled / 1_000_000_000
        }
        if carry > 0 { limbs.append(carry) }
    }
    let digits = limbs.reversed().enumerated().map { index, limb in
        let text = String(limb)
        return index == 0 ? text : String(repeating: "0", count: 9 - text.utf8.count) + text
    }
    return (number < 0 ? "-" : "") + digits.joined()
}
