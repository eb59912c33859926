/// A strict RFC 8259 reader: no trailing commas, no duplicate names, no lone surrogates, valid UTF-8, bounded
/// depth.
///
/// Iterative over bytes from outside: it throws on anything else than one JSON value and never traps.
public struct JSONParser {
    private let bytes: [UInt8]
    private var at = 0
    private let depthMaximum: Int

    /// Reads one document.
    /// - Parameters:
    ///   - depthMaximum: nesting of arrays and objects, 1…128.
    /// - Throws: `JSONSyntaxError` with the byte offset.
    public static func parse(_ bytes: [UInt8], depthMaximum: Int = 32) throws(JSONSyntaxError) -> JSONValue {
        var parser = JSONParser(bytes: bytes, depthMaximum: depthMaximum)
        let value = try parser.value(depth: 0)
        parser.skipSpace()
        if parser.at < bytes.count { throw parser.error("text after the value") }
        return value
    }

    private init(bytes: [UInt8], depthMaximum: Int) {
        self.bytes = bytes
        self.depthMaximum = min(max(depthMaximum, 1), 128)
    }

    private func error(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(offset: at, reason: reason) }

    /// The byte under the cursor, 0 at the end: no JSON token begins with NUL.
    private var current: UInt8 { at < bytes.count ? bytes[at] : 0 }

    private mutating func skipSpace() {
        while at < bytes.count, case let b = bytes[at], b == 0x20 || b == 0x0A || b == 0x0D || b == 0x09 {
            at += 1
        }
    }

    // Recursion is bounded by `depthMaximum`, which is checked before each descent.
    private mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        skipSpace()
        switch current {
        case UInt8(ascii: "{"):
            if depth >= depthMaximum { throw error("nesting deeper than \(depthMaximum)") }
            return .object(try object(depth: depth + 1))
        case UInt8(ascii: "["):
            if depth >= depthMaximum { throw error("nesting deeper than \(depthMaximum)") }
            return .array(try array(depth: depth + 1))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try literal("true", .boolean(true))
        case UInt8(ascii: "f"): return try literal("false", .boolean(false))
        case UInt8(ascii: "n"): return try literal("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw error(at < bytes.count ? "no JSON value begins here" : "unexpected end")
        }
    }

    private mutating func literal(_ text: StaticString, _ value: JSONValue) throws(JSONSyntaxError)
        -> JSONValue
    {
        for expected in text.description.utf8 {
            if current != expected { throw error("no JSON value begins here") }
            at += 1
        }
        return value
    }

    private mutating func array(depth: Int) throws(JSONSyntaxError) -> [JSONValue] {
        at += 1
        var elements: [JSONValue] = []
        skipSpace()
        if current == UInt8(ascii: "]") { at += 1; return elements }
        while true {
            elements.append(try value(depth: depth))
            skipSpace()
            if current == UInt8(ascii: ",") { at += 1; continue }
            if current == UInt8(ascii: "]") { at += 1; return elements }
            throw error(at < bytes.count ? "expected , or ]" : "unexpected end")
        }
    }

    private mutating func object(depth: Int) throws(JSONSyntaxError) -> JSONObject {
        at += 1
        var members: [(name: String, value: JSONValue)] = []
        var names: Set<String> = []
        skipSpace()
        if current == UInt8(ascii: "}") { at += 1; return JSONObject(members) }
        while true {
            skipSpace()
            guard current == UInt8(ascii: "\"") else {
                throw error(at < bytes.count ? "expected a member name" : "unexpected end")
            }
            let start = at
            let name = try string()
            // A set costs more than a few comparisons: it is filled only from the ninth member on.
            let isNew: Bool
            if members.count < 8 {
                isNew = !members.contains { $0.name == name }
            } else {
                if names.isEmpty { names = Set(members.map(\.name)) }
                isNew = names.insert(name).inserted
            }
            if !isNew { at = start; throw error("duplicate member name") }
            skipSpace()
            guard current == UInt8(ascii: ":") else {
                throw error(at < bytes.count ? "expected :" : "unexpected end")
            }
            at += 1
            members.append((name, try value(depth: depth)))
            skipSpace()
            if current == UInt8(ascii: ",") { at += 1; continue }
            if current == UInt8(ascii: "}") { at += 1; return JSONObject(members) }
            throw error(at < bytes.count ? "expected , or }" : "unexpected end")
        }
    }
}

// MARK: - Strings

extension JSONParser {
    private mutating func string() throws(JSONSyntaxError) -> String {
        at += 1
        let start = at
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "\""):
                guard let text = String(validating: bytes[start..<at], as: UTF8.self) else {
                    throw error("invalid UTF-8 before here")
                }
                at += 1
                return text
            case UInt8(ascii: "\\"): return try escapedString(from: start)
            case 0..<0x20: throw error("control character in a string")
            default: at += 1
            }
        }
        throw error("unexpected end")
    }

    /// The rest of a string once an escape was met.
    private mutating func escapedString(from start: Int) throws(JSONSyntaxError) -> String {
        var text = Array(bytes[start..<at])
        while at < bytes.count {
            let byte = bytes[at]
            switch byte {
            case UInt8(ascii: "\""):
                guard let whole = String(validating: text, as: UTF8.self) else {
                    throw error("invalid UTF-8 before here")
                }
                at += 1
                return whole
            case UInt8(ascii: "\\"):
                at += 1
                try escape(into: &text)
            case 0..<0x20: throw error("control character in a string")
            default:
                text.append(byte)
                at += 1
            }
        }
        throw error("unexpected end")
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONSyntaxError) {
        let byte = current
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(8)
        case UInt8(ascii: "f"): text.append(12)
        case UInt8(ascii: "n"): text.append(10)
        case UInt8(ascii: "r"): text.append(13)
        case UInt8(ascii: "t"): text.append(9)
        case UInt8(ascii: "u"):
            var scalar = try hexadecimal()
            if scalar >= 0xD800, scalar < 0xDC00 {
                guard current == UInt8(ascii: "\\") else { throw error("lone surrogate") }
                at += 1
                guard current == UInt8(ascii: "u") else { throw error("lone surrogate") }
                at += 1
                let low = try hexadecimal()
                guard low >= 0xDC00, low < 0xE000 else { throw error("lone surrogate") }
                scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let unicode = Unicode.Scalar(scalar) else { throw error("lone surrogate") }
            text.append(contentsOf: String(Character(unicode)).utf8)
        default:
            at -= 1
            throw error("unknown escape")
        }
    }

    private mutating func hexadecimal() throws(JSONSyntaxError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            let byte = current
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw error("expected a hexadecimal digit")
            }
            value = value << 4 | UInt32(digit)
            at += 1
        }
        return value
    }
}

// MARK: - Numbers

extension JSONParser {
    private mutating func number() throws(JSONSyntaxError) -> JSONValue {
        let start = at
        let isNegative = current == UInt8(ascii: "-")
        if isNegative { at += 1 }
        var mantissa: UInt64 = 0
        var digits = 0
        guard isDigit(current) else { throw error("expected a digit") }
        if current == UInt8(ascii: "0") {
            at += 1
            if isDigit(current) { throw error("leading zero") }
        } else {
            takeDigits(&mantissa, &digits)
        }
        var isInteger = true
        var exponent = 0
        if current == UInt8(ascii: ".") {
            isInteger = false
            at += 1
            let fraction = at
            guard isDigit(current) else { throw error("expected a digit") }
            takeDigits(&mantissa, &digits)
            exponent = fraction - at
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            isInteger = false
            at += 1
            let isMinus = current == UInt8(ascii: "-")
            if isMinus || current == UInt8(ascii: "+") { at += 1 }
            guard isDigit(current) else { throw error("expected a digit") }
            var power = 0
            while isDigit(current) {
                power = min(power * 10 + Int(current - UInt8(ascii: "0")), 100_000)
                at += 1
            }
            exponent += isMinus ? -power : power
        }
        if isInteger, digits <= 18 { return .integer(isNegative ? -Int64(mantissa) : Int64(mantissa)) }
        // Clinger's fast path: both factors are exact doubles, so that one rounding gives the nearest double.
        if digits <= 15, exponent >= -22, exponent <= 22 {
            let value =
                exponent < 0
                ? Double(mantissa) / Self.powers[-exponent] : Double(mantissa) * Self.powers[exponent]
            return .number(isNegative ? -value : value)
        }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        if isInteger, let whole = Int64(text) { return .integer(whole) }
        guard let value = Double(text), value.isFinite else {
            at = start
            throw error("number out of range")
        }
        return .number(value)
    }

    private func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }

    /// Takes a run of digits; `mantissa` is right while `digits` (significant ones) stays ≤ 18.
    private mutating func takeDigits(_ mantissa: inout UInt64, _ digits: inout Int) {
        while at < bytes.count, isDigit(bytes[at]) {
            let digit = UInt64(bytes[at] - UInt8(ascii: "0"))
            if digits > 0 || digit > 0 { digits += 1 }
            if digits <= 18 { mantissa = mantissa * 10 + digit }
            at += 1
        }
    }

    private static let powers: [Double] = [
        1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
        1e19, 1e20, 1e21, 1e22,
    ]
}
