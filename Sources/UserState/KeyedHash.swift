// UNSAFE ALLOWED: calls OpenSSL.
internal import COpenSSL

/// A hash that nobody can compute without a secret: it stands for ids that must not be kept.
struct KeyedHash: Sendable {
    /// Bytes of a secret.
    static let secretBytes = 32
    /// Bytes of a hash: even 2⁴⁰ of them have no two alike.
    static let byteCount = 16

    private let secret: [UInt8]

    /// A hash under `secret`.
    init(secret: [UInt8]) { self.secret = secret }

    /// A secret from the system's random numbers.
    static func makeSecret() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<secretBytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    /// A number for `text`: among the ids of one user no two are alike.
    func number(_ text: String) -> Int64 {
        Int64(bitPattern: hash(text).prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// The first bytes of SHA-256 over the secret and the text; the secret's length is fixed.
    func hash(_ text: String) -> [UInt8] {
        let input = secret + Array(text.utf8)
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 32
        // SAFETY: EVP_Digest reads `input.count` bytes and writes 32, the size of `digest`.
        let status = unsafe input.withUnsafeBufferPointer { source in
            unsafe digest.withUnsafeMutableBufferPointer { target in
                unsafe EVP_Digest(
                    source.baseAddress, source.count, target.baseAddress, &length, EVP_sha256(), nil)
            }
        }
        precondition(status == 1, "OpenSSL refuses SHA-256")
        return Array(digest.prefix(Self.byteCount))
    }
}
