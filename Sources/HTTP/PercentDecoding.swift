/// Percent-escapes and query strings (RFC 3986 §2.1; WHATWG URL, application/x-www-form-urlencoded).
public enum PercentDecoding {
    /// `text` without its escapes; nil when an escape is not "%" and two hexadecimal digits, or the result is
    /// no UTF-8.
    ///
    /// With `plusIsSpace`, "+" stands for a space, as in query strings.
    public static func decode(_ text: some StringProtocol, plusIsSpace: Bool = false) -> String? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        var source = text.utf8.makeIterator()
        while let byte = source.next() {
            switch byte {
            case 0x25:
                guard let high = source.next().flatMap(ASCII.hexadecimal),
                    let low = source.next().flatMap(ASCII.hexadecimal)
                else { return nil }
                bytes.append(high << 4 | low)
            case 0x2B where plusIsSpace: bytes.append(ASCII.space)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

/// The parameters of a query string, in order; repeated keys are kept.
public struct QueryString: Sendable {
    /// Name and value of each parameter, decoded; a parameter without "=" has the value "".
    public let parameters: [(name: String, value: String)]

    /// Takes `query` apart at "&"; "+" is a space, empty parts are skipped.
    ///
    /// Nil when an escape is malformed, a name or value is no UTF-8, or there are more than `countMax`
    /// parameters.
    public init?(_ query: String?, countMax: Int = 100) {
        var parameters: [(name: String, value: String)] = []
        for part in (query ?? "").split(separator: "&") {
            guard parameters.count < countMax else { return nil }
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = PercentDecoding.decode(pair[0], plusIsSpace: true),
                let value = PercentDecoding.decode(pair.count > 1 ? pair[1] : "", plusIsSpace: true)
            else { return nil }
            parameters.append((name, value))
        }
        self.parameters = parameters
    }

    /// The value of the first parameter called `name`.
    public func first(_ name: String) -> String? { parameters.first { $0.name == name }?.value }

    /// The values of all parameters called `name`, in order.
    public func all(_ name: String) -> [String] { parameters.filter { $0.name == name }.map(\.value) }
}
