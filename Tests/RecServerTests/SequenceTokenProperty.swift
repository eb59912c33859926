#if canImport(RecServer)
    @testable import RecServer
#endif

/// What holds for every text that is read as a token; shared by the tests and the fuzzer.
enum SequenceTokenProperty {
    /// What `bytes` break, nil when all holds.
    static func violation(_ bytes: [UInt8]) -> String? {
        let text = String(decoding: bytes, as: UTF8.self)
        if let decoded = Base64URL.decode(text), Base64URL.encode(decoded) != text {
            return "two texts are the same bytes"
        }
        if Base64URL.decode(Base64URL.encode(bytes)) != bytes { return "bytes do not come back" }
        guard let token = SequenceToken(text) else { return nil }
        if token.text != text { return "a token is written in two ways" }
        return nil
    }
}
