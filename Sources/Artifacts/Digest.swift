internal import COpenSSL
public import Kernels

/// SHA-256 through OpenSSL.
public enum Digest {
    /// 64 lower-case hexadecimal digits of the SHA-256 of `file`.
    public static func sha256(_ file: FileBytes) -> String {
        file.withElements(UInt8.self, in: 0..<file.count) { span in hex(of: span) }
    }

    /// 64 lower-case hexadecimal digits of the SHA-256 of `bytes`.
    public static func sha256(_ bytes: [UInt8]) -> String { hex(of: bytes.span) }

    /// The same of a matrix's floats, row by row, as they lie in memory.
    public static func sha256(_ matrix: Matrix) -> String {
        let context = unsafe EVP_MD_CTX_new()
        defer { unsafe EVP_MD_CTX_free(context) }
        var isGood = unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1
        for row in 0..<matrix.rows {
            matrix.view.withRow(row) { floats in
                // SAFETY: EVP_DigestUpdate reads the row's bytes, which the span keeps alive.
                let bytes = unsafe floats.withUnsafeBytes { source in
                    unsafe EVP_DigestUpdate(context, source.baseAddress, source.count)
                }
                isGood = isGood && bytes == 1
            }
        }
        var digest = [UInt8](repeating: 0, count: 32)
        // SAFETY: EVP_DigestFinal_ex writes 32 bytes, the size of `digest`.
        let status = unsafe digest.withUnsafeMutableBufferPointer { target in
            unsafe EVP_DigestFinal_ex(context, target.baseAddress, nil)
        }
        precondition(isGood && status == 1, "OpenSSL refuses SHA-256")
        return hex(digest)
    }

    /// The size of a digest in bytes.
    public static let byteCount = 32

    /// The 32 bytes of the SHA-256 of `text`'s UTF-8.
    public static func sha256(of text: String) -> [UInt8] { digest(of: Array(text.utf8).span) }

    /// Which of the digests, 32 bytes each, that lie one after the other in `table` is `digest`; nil when
    /// none is.
    ///
    /// All are compared, each in a time that does not depend on where it differs: the time tells nothing
    /// about them.
    public static func place(of digest: [UInt8], in table: [UInt8]) -> Int? {
        guard digest.count == byteCount else { return nil }
        var place: Int?
        for index in 0..<table.count / byteCount {
            let differs = unsafe table.withUnsafeBytes { table in
                unsafe digest.withUnsafeBytes { digest in
                    // SAFETY: both hold 32 bytes from there on: `index` is below the number of whole digests.
                    unsafe CRYPTO_memcmp(
                        table.baseAddress.map { unsafe $0 + index * byteCount }, digest.baseAddress, byteCount
                    )
                }
            }
            if differs == 0 { place = index }
        }
        return place
    }

    private static func hex(of span: Span<UInt8>) -> String { hex(digest(of: span)) }

    /// The 32 bytes of the SHA-256 of `bytes`.
    static func sha256Bytes(_ bytes: [UInt8]) -> [UInt8] { digest(of: bytes.span) }

    private static func digest(of span: Span<UInt8>) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 32
        // SAFETY: EVP_Digest reads `span.count` bytes and writes 32, the size of `digest`.
        let status = unsafe span.withUnsafeBufferPointer { source in
            unsafe digest.withUnsafeMutableBufferPointer { target in
                unsafe EVP_Digest(
                    source.baseAddress, source.count, target.baseAddress, &length, EVP_sha256(), nil)
            }
        }
        precondition(status == 1, "OpenSSL refuses SHA-256")
        return digest
    }

    /// Two lower-case hexadecimal digits a byte.
    static func hex(_ bytes: [UInt8]) -> String {
        var text = ""
        for byte in bytes {
            text += String(byte >> 4, radix: 16)
            text += String(byte & 15, radix: 16)
        }
        return text
    }
}
