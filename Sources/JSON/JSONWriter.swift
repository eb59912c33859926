/// Writes JSON text piece by piece into one byte array; commas and quotes are its business.
///
/// The caller opens and closes in the right order. A number that is not finite is written as null: none ever
/// leaves as text.
public struct JSONWriter {
    /// The UTF-8 text written so far.
    public private(set) var bytes: [UInt8] = []
    private var needsComma = false

    /// An empty text with room for `capacity` bytes.
    public init(capacity: Int = 256) { bytes.reserveCapacity(capacity) }

    /// Opens an object: `key` and a value for each member, then `endObject`.
    public mutating func beginObject() { open(UInt8(ascii: "{")) }
    /// Closes the innermost object.
    public mutating func endObject() { close(UInt8(ascii: "}")) }
    /// Opens an array: its values, then `endArray`.
    public mutating func beginArray() { open(UInt8(ascii: "[")) }
    /// Closes the innermost array.
    public mutating func endArray() { close(UInt8(ascii: "]")) }

    /// A member's name; its value comes next.
    public mutating func key(_ name: String) {
        separate()
        quote(name)
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
    }

    /// The value null.
    public mutating func null() { raw("null") }
    /// The value true or false.
    public mutating func value(_ value: Bool) { raw(value ? "true" : "false") }
    /// An integer in decimal, exact also beyond 2⁵³.
    public mutating func value(_ value: Int) { raw(value.description) }
    /// The shortest text that reads back as the same Float.
    public mutating func value(_ value: Float) { raw(value.isFinite ? value.description : "null") }
    /// The shortest text that reads back as the same Double; integral values without a fraction.
    public mutating func value(_ value: Double) {
        if let whole = Int64(exactly: value), whole.magnitude < 1 << 53 { return raw(whole.description) }
        raw(value.isFinite ? value.description : "null")
    }
    /// A string in quotes, with control characters escaped.
    public mutating func value(_ value: String) {
        separate()
        quote(value)
        needsComma = true
    }

    /// A value that is JSON text already.
    public mutating func value(encoded text: ArraySlice<UInt8>) {
        separate()
        bytes += text
        needsComma = true
    }

    /// A whole document or part of one; recurses as deep as `value` is nested.
    public mutating func value(_ value: JSONValue) {
        switch value {
        case .null: null()
        case .boolean(let boolean): self.value(boolean)
        case .integer(let integer): self.value(Int(integer))
        case .number(let number): self.value(number)
        case .string(let string): self.value(string)
        case .array(let elements):
            beginArray()
            for element in elements { self.value(element) }
            endArray()
        case .object(let object):
            beginObject()
            for member in object.members {
                key(member.name)
                self.value(member.value)
            }
            endObject()
        }
    }

    private mutating func open(_ byte: UInt8) {
        separate()
        bytes.append(byte)
        needsComma = false
    }

    private mutating func close(_ byte: UInt8) {
        bytes.append(byte)
        needsComma = true
    }

    private mutating func separate() { if needsComma { bytes.append(UInt8(ascii: ",")) } }

    private mutating func raw(_ text: String) {
        separate()
        bytes.append(contentsOf: text.utf8)
        needsComma = true
    }

    private mutating func quote(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x0A: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "n")])
            case 0..<0x20, 0x7F:
                bytes.append(contentsOf: "\\u00".utf8)
                for nibble in [byte >> 4, byte & 15] {
                    bytes.append(nibble < 10 ? nibble + 0x30 : nibble + 0x57)
                }
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
