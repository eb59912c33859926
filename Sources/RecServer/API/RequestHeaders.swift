import HTTP

/// What the header fields of `POST /recommend` say about its body, or about every line of a batch.
struct RequestHeaders {
    /// `X-User-Id`; nil without one.
    let userID: String?
    /// `Prefer: handling=lenient` (RFC 7240): fields that no request has are ignored.
    let isLenient: Bool

    /// - Throws: `.badRequest` or `.outOfRange` for an `X-User-Id` that cannot be one.
    init(_ headers: HTTPHeaders) throws(Problem) {
        userID = try Self.userID(headers)
        let preferences = Self.values(of: "Prefer", headers).joined(separator: ",")
        isLenient = Self.preference("handling", in: preferences)?.lowercased() == "lenient"
    }

    /// Makes the header's user the request's where the body names none.
    /// - Throws: `.badRequest` when both name one and they differ.
    func identify(_ request: inout RecommendRequest) throws(Problem) {
        request.userID = try user(or: request.userID, at: "")
    }

    /// The header's user, or the one that the object at `pointer` names.
    /// - Throws: `.badRequest` when both are there and differ.
    func user(or named: String?, at pointer: String) throws(Problem) -> String? {
        guard let userID else { return named }
        guard named == nil || named == userID else {
            throw Problem(
                .badRequest, "X-User-Id and user_id differ",
                errors: [.init(pointer: pointer + "/user_id", detail: "differs from X-User-Id")])
        }
        return userID
    }

    private static func userID(_ headers: HTTPHeaders) throws(Problem) -> String? {
        let values = Set(values(of: "X-User-Id", headers))
        guard let userID = values.first else { return nil }
        guard values.count == 1 else { throw Problem(.badRequest, "X-User-Id is given twice") }
        // Bytes that are not UTF-8 have become U+FFFD.
        guard RecommendRequest.Limits.idBytes.contains(userID.utf8.count), !userID.contains("\u{FFFD}")
        else {
            throw Problem(.outOfRange, "X-User-Id takes 1 to 128 bytes of UTF-8")
        }
        return userID
    }

    /// The values of all fields called `name`.
    static func values(of name: String, _ headers: HTTPHeaders) -> [String] {
        guard headers.count(of: name) > 0 else { return [] }
        return headers.all.filter { $0.name.lowercased() == name.lowercased() }.map(\.value)
    }

    // MARK: - RFC 7240

    /// The value of the first preference called `name` (lower case) in a list, nil when there is none; what
    /// follows the grammar no further is left out up to the next comma.
    static func preference(_ name: String, in list: String) -> String? {
        var rest = Array(list.utf8)[...]
        while !rest.isEmpty {
            let found = token(&rest)
            skipSpace(&rest)
            var value = ""
            if rest.first == UInt8(ascii: "=") {
                rest.removeFirst()
                skipSpace(&rest)
                value = rest.first == UInt8(ascii: "\"") ? quoted(&rest) : token(&rest)
            }
            if found.lowercased() == name { return value }
            // Parameters of the preference, whose quoted values may hold commas.
            while let byte = rest.first, byte != UInt8(ascii: ",") {
                if byte == UInt8(ascii: "\"") { _ = quoted(&rest) } else { rest.removeFirst() }
            }
            _ = rest.popFirst()
            skipSpace(&rest)
        }
        return nil
    }

    private static func skipSpace(_ rest: inout ArraySlice<UInt8>) {
        while let byte = rest.first, byte == 0x20 || byte == 0x09 { rest.removeFirst() }
    }

    private static func token(_ rest: inout ArraySlice<UInt8>) -> String {
        skipSpace(&rest)
        let text = rest.prefix { byte in
            byte > 0x20 && byte < 0x7F && !"\"(),/:;<=>?@[\\]{}".utf8.contains(byte)
        }
        rest = rest.dropFirst(text.count)
        return String(decoding: text, as: UTF8.self)
    }

    /// The text of a quoted string, which `rest` begins with; one without an end goes to the end.
    private static func quoted(_ rest: inout ArraySlice<UInt8>) -> String {
        rest.removeFirst()
        var text: [UInt8] = []
        while let byte = rest.popFirst(), byte != UInt8(ascii: "\"") {
            text.append(byte == UInt8(ascii: "\\") ? rest.popFirst() ?? byte : byte)
        }
        return String(decoding: text, as: UTF8.self)
    }
}
