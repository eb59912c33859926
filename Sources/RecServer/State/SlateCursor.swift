import Artifacts

/// Which slate, and its next place: what a cursor says, sealed so that no other can be made from it.
struct SlateCursor: Equatable, Sendable {
    /// 16 random bytes.
    struct SlateID: Hashable, Sendable {
        let high: UInt64
        let low: UInt64

        static func random() -> SlateID {
            SlateID(high: .random(in: .min ... .max), low: .random(in: .min ... .max))
        }
    }

    let slate: SlateID
    /// Place of the slate where the page begins, from 0.
    let offset: UInt32

    /// The id, the offset and the code: 36 bytes, so that no bit of the text is spare.
    private static let codeBytes = 16
    private static let textBytes = 48

    /// base64url of id, offset and code.
    func text(_ seal: MessageCode) -> String {
        let message = message
        return Base64URL.encode(message + seal.code(of: message).prefix(Self.codeBytes))
    }

    private var message: [UInt8] {
        var bytes: [UInt8] = []
        for word in [slate.high, slate.low] {
            for shift in stride(from: 56, through: 0, by: -8) {
                bytes.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        for shift in stride(from: 24, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: offset >> shift))
        }
        return bytes
    }

    init(slate: SlateID, offset: Int) {
        self.slate = slate
        self.offset = UInt32(clamping: offset)
    }

    /// Nil for a text that was not written under `seal`.
    init?(_ text: String, _ seal: MessageCode) {
        guard text.utf8.count == Self.textBytes, let bytes = Base64URL.decode(text) else { return nil }
        let message = bytes.dropLast(Self.codeBytes)
        guard seal.isValid(bytes.suffix(Self.codeBytes), for: message) else { return nil }
        func number(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
        slate = SlateID(high: number(0..<8), low: number(8..<16))
        offset = UInt32(truncatingIfNeeded: number(16..<20))
    }
}
