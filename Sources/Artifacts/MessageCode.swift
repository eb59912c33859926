/// HMAC-SHA256 (RFC 2104) under a key that this process drew at random and never shows: what carries the
/// code of its bytes was written here.
public struct MessageCode: Sendable {
    private static let blockBytes = 64
    private let inner: [UInt8]
    private let outer: [UInt8]

    /// A new random key.
    public init() {
        var random = SystemRandomNumberGenerator()
        self.init(key: (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &random) })
    }

    /// - Parameter key: at most 64 bytes.
    init(key: [UInt8]) {
        precondition(key.count <= Self.blockBytes, "\(key.count) bytes of a key")
        let padded = key + [UInt8](repeating: 0, count: Self.blockBytes - key.count)
        inner = padded.map { $0 ^ 0x36 }
        outer = padded.map { $0 ^ 0x5C }
    }

    /// The 32 bytes of the code of `message`.
    public func code(of message: some Collection<UInt8>) -> [UInt8] {
        Digest.sha256Bytes(outer + Digest.sha256Bytes(inner + message))
    }

    /// Whether `code` is the beginning of the code of `message`; takes the same time wherever they differ.
    public func isValid(_ code: some Collection<UInt8>, for message: some Collection<UInt8>) -> Bool {
        var difference: UInt8 = 0
        for (a, b) in zip(code, self.code(of: message)) { difference |= a ^ b }
        return difference == 0 && !code.isEmpty && code.count <= 32
    }
}
