#if canImport(HTTP)
    @testable import HTTP
#endif

/// What holds for every beginning of a connection that has to be a PROXY header; shared by the tests and the
/// fuzzer.
enum ProxyProperty {
    /// Nil when it does, else what does not.
    static func violation(_ bytes: [UInt8]) -> String? {
        let whole = ProxyHeader.parse(bytes.span)
        if case .complete(let header, let consumed) = whole {
            guard 16...bytes.count ~= consumed, consumed <= 16 + ProxyHeader.bytesMax else {
                return "\(consumed) bytes consumed of \(bytes.count)"
            }
            if let source = header.source, NetworkAddress(source.description) != source {
                return "\(source) is not what it says"
            }
        }
        // Each piece tells the same or asks for more, and what was decided stays.
        var decided: ProxyHeader.Outcome?
        for count in 0...bytes.count {
            let outcome = ProxyHeader.parse(bytes.span.extracting(0..<count))
            if let decided {
                guard outcome == decided else { return "\(decided) became \(outcome) at \(count)" }
            } else if outcome != .partial {
                decided = outcome
            }
        }
        return decided ?? .partial == whole ? nil : "\(String(describing: decided)) instead of \(whole)"
    }
}
