/// A coding that makes contents smaller (RFC 9110 §8.4.1).
public enum ContentCoding: String, Sendable, CaseIterable {
    case zstd
    case gzip

    /// The coding to answer in, by the values of the `Accept-Encoding` fields: the one that the client likes
    /// best, zstd of equals. Nil for none, also where the client likes that better, or refuses everything.
    public init?(acceptEncoding values: [String]) {
        var qualities: [String: Int] = [:]
        for value in values {
            for element in value.split(separator: ",") {
                let parts = element.split(separator: ";", omittingEmptySubsequences: false)
                let name = Self.trimmed(parts[0]).lowercased()
                guard let quality = Self.quality(parts.dropFirst()) else { continue }
                // 32: nobody asks for so many; a longer list says nothing more.
                guard qualities.count < 32 else { break }
                qualities[name == "x-gzip" ? "gzip" : name] = quality
            }
        }
        let other = qualities["*"] ?? 0
        var best = qualities["identity"] ?? 0
        var coding: ContentCoding?
        for candidate in Self.allCases {
            let quality = qualities[candidate.rawValue] ?? other
            if quality > 0, coding == nil ? quality >= best : quality > best {
                (coding, best) = (candidate, quality)
            }
        }
        guard let coding else { return nil }
        self = coding
    }

    /// Thousandths by `q=`, 1,000 without one; nil when that is malformed (RFC 9110 §12.4.2).
    private static func quality(_ parameters: ArraySlice<Substring>) -> Int? {
        for parameter in parameters {
            let text = trimmed(parameter).lowercased()
            guard text.hasPrefix("q=") else { continue }
            let digits = Array(text.utf8.dropFirst(2))
            guard let first = digits.first, first == 0x30 || first == 0x31, digits.count <= 5,
                digits.count == 1 || digits[1] == ASCII.dot,
                digits.dropFirst(2).allSatisfy({ ASCII.isDigit($0) })
            else { return nil }
            var value = Int(first - 0x30)
            for place in 2..<5 { value = value * 10 + (place < digits.count ? Int(digits[place] - 0x30) : 0) }
            return value <= 1_000 ? value : nil
        }
        return 1_000
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text
        while let first = text.utf8.first, first == ASCII.space || first == ASCII.tab { text.removeFirst() }
        while let last = text.utf8.last, last == ASCII.space || last == ASCII.tab { text.removeLast() }
        return text
    }
}
