#if canImport(HTTP)
    @testable import HTTP
#endif

/// What holds for every body that says it is gzip; shared by the tests and the fuzzer.
enum GzipProperty {
    /// Nil when it does, else what does not.
    static func violation(_ bytes: [UInt8]) -> String? {
        for limit in [0, 100, 100_000] {
            guard let content = try? GzipDecoder.decode(bytes, limit: limit) else { continue }
            guard content.count <= limit else { return "\(content.count) bytes, \(limit) allowed" }
            let most = max(GzipDecoder.ratioBytes, bytes.count * GzipDecoder.ratioMax)
            guard content.count <= most else { return "\(content.count) bytes of \(bytes.count)" }
        }
        return nil
    }
}
