/// A JSON document in memory.
public enum JSONValue: Sendable, Equatable {
    case null
    case boolean(Bool)
    /// A literal without fraction and exponent that fits 64 bits.
    case integer(Int64)
    /// Any other number; always finite.
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    /// The JSON type's name, for messages.
    public var typeName: String {
        switch self {
        case .null: "null"
        case .boolean: "boolean"
        case .integer: "integer"
        case .number: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }
}

/// An object's members in document order; names are all different.
public struct JSONObject: Sendable, Equatable {
    public let members: [(name: String, value: JSONValue)]

    /// Members with distinct names; the parser guarantees it.
    public init(_ members: [(name: String, value: JSONValue)]) { self.members = members }

    /// The member of that name; linear, for the few members our documents have.
    public subscript(name: String) -> JSONValue? { members.first { $0.name == name }?.value }

    public static func == (a: JSONObject, b: JSONObject) -> Bool {
        a.members.count == b.members.count
            && zip(a.members, b.members).allSatisfy { $0.name == $1.name && $0.value == $1.value }
    }
}

/// Why a text is not JSON.
public struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
    /// Byte offset of the first offending byte.
    public let offset: Int
    public let reason: String
    public var description: String { "\(reason) at byte \(offset)" }
}
