/// What is wrong with a document that is JSON but not what was asked for, with an RFC 6901 pointer to the
/// place.
public struct JSONSchemaError: Error, Equatable, CustomStringConvertible, Sendable {
    /// How a value differs from what was asked for.
    public enum Kind: Sendable, Equatable { case unknownField, wrongType, outOfRange, missing }
    /// The sort of difference, for callers that answer each in its own way.
    public let kind: Kind
    /// Where it is, RFC 6901; empty for the whole document.
    public let pointer: String
    /// What was expected and what was found, for people.
    public let detail: String
    /// The place and the detail in one line.
    public var description: String { "\(pointer.isEmpty ? "document" : pointer): \(detail)" }

    /// An error at `pointer`.
    public init(_ kind: Kind, _ pointer: String, _ detail: String) {
        self.kind = kind
        self.pointer = pointer
        self.detail = detail
    }
}

/// Reads an object member by member with types and ranges checked, and refuses what nobody asked for.
///
/// Members read are remembered; `finish()` throws on the first that was not. A null member counts as absent.
public struct JSONObjectReader {
    /// The object being read.
    public let object: JSONObject
    /// Where the object is in its document, RFC 6901.
    public let pointer: String
    /// Whether members that nobody read are ignored; objects read through this one inherit it.
    public let isLenient: Bool
    private var seen: Set<String> = []

    /// - Throws: `.wrongType` when `value` is not an object.
    public init(_ value: JSONValue, at pointer: String, isLenient: Bool = false) throws(JSONSchemaError) {
        guard case .object(let object) = value else {
            throw JSONSchemaError(.wrongType, pointer, "expected an object, found \(value.typeName)")
        }
        self.object = object
        self.pointer = pointer
        self.isLenient = isLenient
    }

    /// The pointer of member `name` (RFC 6901 escapes).
    public func pointer(to name: String) -> String { Self.pointer(pointer, name) }

    /// The pointer of a member or element below `pointer`.
    ///
    /// Of a name from outside it takes the first 128 scalars and an ellipsis: enough to find it, too little
    /// to flood answers and logs.
    public static func pointer(_ pointer: String, _ name: String) -> String {
        var text = pointer + "/"
        // By scalar: as a character, a slash with a combining mark is no slash.
        var left = 128
        for scalar in name.unicodeScalars {
            if left == 0 { return text + "…" }
            left -= 1
            switch scalar {
            case "~": text += "~0"
            case "/": text += "~1"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    /// The raw member, nil when absent or null.
    public mutating func value(_ name: String) -> JSONValue? {
        seen.insert(name)
        guard let value = object[name], value != .null else { return nil }
        return value
    }

    /// Names of the members nobody has read yet.
    public var unread: [String] { object.members.map(\.name).filter { !seen.contains($0) } }

    /// - Throws: `.unknownField` when a member was never read, unless the reader is lenient.
    public func finish() throws(JSONSchemaError) {
        if !isLenient, let name = unread.first {
            throw JSONSchemaError(.unknownField, pointer(to: name), "unknown field")
        }
    }

    /// The string member of that name, nil when absent or null.
    /// - Parameters:
    ///   - range: length in bytes of UTF-8.
    /// - Throws: `.wrongType`, or `.outOfRange` when the length is not in `range`.
    public mutating func optionalString(_ name: String, bytes range: ClosedRange<Int> = 0...1_048_576)
        throws(JSONSchemaError) -> String?
    {
        guard let value = value(name) else { return nil }
        return try Self.string(value, at: pointer(to: name), bytes: range)
    }

    /// The integer member of that name, nil when absent or null; `1.0` is not an integer.
    /// - Throws: `.wrongType` or `.outOfRange`.
    public mutating func optionalInteger(_ name: String, in range: ClosedRange<Int>) throws(JSONSchemaError)
        -> Int?
    {
        guard let value = value(name) else { return nil }
        return try Self.integer(value, at: pointer(to: name), in: range)
    }

    /// The number member of that name, nil when absent or null.
    /// - Throws: `.wrongType` or `.outOfRange`.
    public mutating func optionalNumber(_ name: String, in range: ClosedRange<Double>) throws(JSONSchemaError)
        -> Double?
    {
        guard let value = value(name) else { return nil }
        return try Self.number(value, at: pointer(to: name), in: range)
    }

    /// The boolean member of that name, nil when absent or null.
    /// - Throws: `.wrongType`.
    public mutating func optionalBoolean(_ name: String) throws(JSONSchemaError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard case .boolean(let boolean) = value else {
            throw JSONSchemaError(
                .wrongType, pointer(to: name), "expected a boolean, found \(value.typeName)")
        }
        return boolean
    }

    /// The elements of an array member of at most `maximum` elements.
    public mutating func optionalArray(_ name: String, maximum: Int) throws(JSONSchemaError) -> [JSONValue]? {
        guard let value = value(name) else { return nil }
        guard case .array(let elements) = value else {
            throw JSONSchemaError(.wrongType, pointer(to: name), "expected an array, found \(value.typeName)")
        }
        if elements.count > maximum {
            throw JSONSchemaError(
                .outOfRange, pointer(to: name), "\(elements.count) elements, at most \(maximum)")
        }
        return elements
    }

    /// A reader of the object member of that name, nil when absent or null; the caller finishes it.
    /// - Throws: `.wrongType`.
    public mutating func optionalObject(_ name: String) throws(JSONSchemaError) -> JSONObjectReader? {
        guard let value = value(name) else { return nil }
        return try JSONObjectReader(value, at: pointer(to: name), isLenient: isLenient)
    }

    /// `found`, or `.missing` when it is nil.
    public func required<Value>(_ name: String, _ found: Value?) throws(JSONSchemaError) -> Value {
        guard let found else {
            throw JSONSchemaError(.missing, pointer(to: name), "required field is missing")
        }
        return found
    }

    /// As `optionalString`, but absence throws `.missing`.
    public mutating func string(_ name: String, bytes range: ClosedRange<Int> = 0...1_048_576)
        throws(JSONSchemaError) -> String
    {
        try required(name, try optionalString(name, bytes: range))
    }

    /// As `optionalInteger`, but absence throws `.missing`.
    public mutating func integer(_ name: String, in range: ClosedRange<Int>) throws(JSONSchemaError) -> Int {
        try required(name, try optionalInteger(name, in: range))
    }

    /// As `optionalNumber`, but absence throws `.missing`.
    public mutating func number(_ name: String, in range: ClosedRange<Double>) throws(JSONSchemaError)
        -> Double
    {
        try required(name, try optionalNumber(name, in: range))
    }

    /// As `optionalArray`, but absence throws `.missing`.
    public mutating func array(_ name: String, maximum: Int) throws(JSONSchemaError) -> [JSONValue] {
        try required(name, try optionalArray(name, maximum: maximum))
    }

    /// As `optionalObject`, but absence throws `.missing`.
    public mutating func reader(_ name: String) throws(JSONSchemaError) -> JSONObjectReader {
        try required(name, try optionalObject(name))
    }

    /// A string of the named values.
    public mutating func choice<Value>(_ name: String, _ choices: [(String, Value)]) throws(JSONSchemaError)
        -> Value
    {
        let text = try string(name)
        guard let choice = choices.first(where: { $0.0 == text }) else {
            throw JSONSchemaError(
                .outOfRange, pointer(to: name), "expected one of " + choices.map(\.0).joined(separator: ", "))
        }
        return choice.1
    }

    // MARK: Single values

    /// `value` as a string whose length in bytes of UTF-8 is in `range`.
    /// - Throws: `.wrongType` or `.outOfRange`, at `pointer`.
    public static func string(
        _ value: JSONValue, at pointer: String, bytes range: ClosedRange<Int> = 0...1_048_576
    ) throws(JSONSchemaError) -> String {
        guard case .string(let text) = value else {
            throw JSONSchemaError(.wrongType, pointer, "expected a string, found \(value.typeName)")
        }
        guard range.contains(text.utf8.count) else {
            throw JSONSchemaError(
                .outOfRange, pointer,
                "\(text.utf8.count) bytes, expected \(range.lowerBound) to \(range.upperBound)")
        }
        return text
    }

    /// `value` as an integer in `range`; `1.0` is not an integer.
    /// - Throws: `.wrongType` or `.outOfRange`, at `pointer`.
    public static func integer(_ value: JSONValue, at pointer: String, in range: ClosedRange<Int>)
        throws(JSONSchemaError) -> Int
    {
        guard case .integer(let integer) = value else {
            throw JSONSchemaError(.wrongType, pointer, "expected an integer, found \(value.typeName)")
        }
        guard let found = Int(exactly: integer), range.contains(found) else {
            throw JSONSchemaError(.outOfRange, pointer, "expected \(range.lowerBound) to \(range.upperBound)")
        }
        return found
    }

    /// `value` as a number in `range`; an integer beyond 2⁵³ is rounded to the nearest.
    /// - Throws: `.wrongType` or `.outOfRange`, at `pointer`.
    public static func number(_ value: JSONValue, at pointer: String, in range: ClosedRange<Double>)
        throws(JSONSchemaError) -> Double
    {
        let number: Double
        switch value {
        case .integer(let integer): number = Double(integer)
        case .number(let found): number = found
        default: throw JSONSchemaError(.wrongType, pointer, "expected a number, found \(value.typeName)")
        }
        guard range.contains(number) else {
            throw JSONSchemaError(.outOfRange, pointer, "expected \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}
