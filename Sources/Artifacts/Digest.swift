internal import COpenSSL

/// SHA-256 through OpenSSL.
public enum Digest {
    /// 64 lower-case hexadecimal digits of the SHA-256 of `file`.
    public static func sha256(_ file: FileBytes) -> String {
        file.withElements(UInt8.self, in: 0..<file.count) { span in hex(of: span) }
    }

    /// 64 lower-case hexadecimal digits of the SHA-256 of `bytes`.
    public static func sha256(_ bytes: [UInt8]) -> String { hex(of: bytes.span) }

    private static func hex(of span: Span<UInt8>) -> String {
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
        return hex(digest)
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
