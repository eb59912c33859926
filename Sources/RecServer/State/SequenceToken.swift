/// What a caller shows to read what it wrote: a user's sequence or a commit, of one store.
///
/// The text is opaque base64url without padding (RFC 4648 §5): a kind, the store's epoch, the user's hash
/// where there is one, and the number. It is no secret and protects nothing.
struct SequenceToken: Equatable, Sendable {
    /// What must have been reached.
    enum Place: Equatable, Sendable {
        case sequence(Int64, user: UInt64)
        case commit(Int64)
    }

    /// Of the store; a store made anew has another one.
    let epoch: UInt64
    let place: Place

    init(epoch: UInt64, place: Place) {
        self.epoch = epoch
        self.place = place
    }

    init(epoch: UInt64, user: String, sequence: Int64) {
        self.init(epoch: epoch, place: .sequence(sequence, user: Self.hash(user, epoch)))
    }

    /// Reads a token; nil when the text is none.
    init?(_ text: String) {
        guard text.utf8.count <= 40, let bytes = Base64URL.decode(text), let kind = bytes.first else {
            return nil
        }
        let words = Self.words(bytes.dropFirst())
        switch (kind, words?.count) {
        case (1, 3): place = .sequence(Int64(bitPattern: words?[2] ?? 0), user: words?[1] ?? 0)
        case (2, 2): place = .commit(Int64(bitPattern: words?[1] ?? 0))
        default: return nil
        }
        epoch = words?[0] ?? 0
    }

    /// Whether the token is about this user, or about all.
    func isOf(user: String?) -> Bool {
        guard case .sequence(_, let hash) = place else { return true }
        return user.map { Self.hash($0, epoch) } == hash
    }

    var text: String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(25)
        switch place {
        case .sequence(let sequence, let user):
            bytes.append(1)
            for word in [epoch, user, UInt64(bitPattern: sequence)] { Self.append(word, to: &bytes) }
        case .commit(let commit):
            bytes.append(2)
            for word in [epoch, UInt64(bitPattern: commit)] { Self.append(word, to: &bytes) }
        }
        return Base64URL.encode(bytes)
    }

    private static func append(_ word: UInt64, to bytes: inout [UInt8]) {
        for shift in stride(from: 56, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
        }
    }

    /// Big-endian words; nil when the bytes do not come to whole ones.
    private static func words(_ bytes: ArraySlice<UInt8>) -> [UInt64]? {
        guard bytes.count % 8 == 0 else { return nil }
        var words: [UInt64] = []
        var rest = bytes
        while !rest.isEmpty {
            words.append(rest.prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
            rest = rest.dropFirst(8)
        }
        return words
    }

    private static func hash(_ user: String, _ epoch: UInt64) -> UInt64 {
        StickyHash.bits(of: user, for: epoch)
    }
}

/// RFC 4648 §5 without padding, canonical only.
enum Base64URL {
    private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count * 4 + 2) / 3)
        var bits = 0
        var pending: UInt32 = 0
        for byte in bytes {
            pending = pending << 8 | UInt32(byte)
            bits += 8
            while bits >= 6 {
                bits -= 6
                text.append(digits[Int(pending >> UInt32(bits) & 63)])
            }
        }
        if bits > 0 { text.append(digits[Int(pending << UInt32(6 - bits) & 63)]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// Nil for other characters, for a length that no bytes have, and for bits that belong to no byte.
    static func decode(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count * 3 / 4)
        var bits = 0
        var pending: UInt32 = 0
        for character in text.utf8 {
            guard let digit = value(character) else { return nil }
            pending = pending << 6 | digit
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: pending >> UInt32(bits)))
            }
        }
        guard bits < 6, pending & (1 << UInt32(bits) - 1) == 0 else { return nil }
        return bytes
    }

    private static func value(_ character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "-"): 62
        case UInt8(ascii: "_"): 63
        default: nil
        }
    }
}
