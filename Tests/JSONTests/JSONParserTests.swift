import JSON
import TestSupport
import Testing

@Suite struct JSONParserTests {
    func parse(_ text: String) throws -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

    @Test func `every kind of value is read`() throws {
        let value = try parse(
            #" {"a": [1, -0, 2.5e1, true, false, null], "é\n\ud83d\ude00\u0041": "\"\\\/\b\f\r\t"} "#)
        guard case .object(let object) = value else { Issue.record("not an object"); return }
        #expect(
            object["a"]
                == .array([.integer(1), .integer(0), .number(25), .boolean(true), .boolean(false), .null]))
        #expect(object["é\n😀A"] == .string("\"\\/\u{8}\u{c}\r\t"))
    }

    @Test(arguments: [
        "", " ", "[1,]", "{\"a\":1,}", "[1 2]", "{\"a\" 1}", "{a:1}", "[", "]", "{", "\"", "\"a", "'a'",
        "nul", "tru", "True", "NaN", "Infinity",
        "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x10", "1e999", "-1e999", "1 2", "[] []", "\"\\x\"",
        "\"\\u12\"", "\"\\ud800\"",
        "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\u{1}\"", "\"\n\"", "{\"a\":1,\"a\":2}",
        "{\"\\u0061\":1,\"a\":2}", "\u{feff}1", "/**/1", "[1]//",
        "{\"a\":}", "{,}", "[,1]", "{\"a\":1 \"b\":2}", "nullx", "\u{0}", "1\u{0}", "[1\u{0}]",
    ])
    func `text that is not strict JSON is refused`(text: String) {
        #expect(throws: JSONSyntaxError.self) { try parse(text) }
    }

    @Test func `bytes that are not UTF-8 are refused`() {
        for bad in [
            [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82], [0x80],
        ] as [[UInt8]] {
            #expect(throws: JSONSyntaxError.self) { try JSONParser.parse([0x22] + bad + [0x22]) }
            #expect(throws: JSONSyntaxError.self) { try JSONParser.parse([0x22, 0x5C, 0x6E] + bad + [0x22]) }
        }
    }

    @Test func `a ninth duplicate name is refused like a second`() {
        let names = (0..<20).map { "\"k\($0)\":\($0)" }.joined(separator: ",")
        #expect(throws: Never.self) { try parse("{\(names)}") }
        for i in 0..<20 { #expect(throws: JSONSyntaxError.self) { try parse("{\(names),\"k\(i)\":0}") } }
    }

    @Test func `nesting up to the limit is read, one deeper is refused, a million deep does not crash`()
        throws
    {
        for opening in ["[", "{\"a\":"] {
            let closing = opening == "[" ? "]" : "}"
            let fine = String(repeating: opening, count: 32) + "1" + String(repeating: closing, count: 32)
            #expect(throws: Never.self) { try parse(fine) }
            #expect(throws: JSONSyntaxError.self) { try parse(opening + fine + closing) }
            #expect(throws: JSONSyntaxError.self) { try parse(String(repeating: opening, count: 200_000)) }
        }
    }

    @Test func `every proper prefix of a document is refused`() {
        let whole = Array(#"{"a":[1.5e3,"x\u00e9",{"b":null}],"c":true}"#.utf8)
        #expect(throws: Never.self) { try JSONParser.parse(whole) }
        for end in 0..<whole.count {
            #expect(throws: JSONSyntaxError.self) { try JSONParser.parse(Array(whole[..<end])) }
        }
    }

    @Test func `numbers read as the language's own conversion reads them`() throws {
        for text in [
            "0.1", "1e22", "1e23", "123456789012345678", "9007199254740993", "-9223372036854775808",
            "9223372036854775807", "9223372036854775808",
            "4.9e-324", "1.7976931348623157e308", "0.000001", "1e-400", "123456789.123456789",
            "100000000000000000000000", "0e5", "-0.0", "1E+2", "3.14159265358979",
        ] {
            switch try parse(text) {
            case .integer(let integer): #expect(Int64(text) == integer)
            case .number(let number): #expect(Double(text) == number, "\(text)")
            default: Issue.record("\(text)")
            }
        }
    }

    @Test func `what the writer writes the parser reads back, for random documents`() throws {
        var generator = SeededRandom(7)
        func random(_ depth: Int) -> JSONValue {
            switch Int.random(in: 0..<(depth > 3 ? 5 : 7), using: &generator) {
            case 0: .null
            case 1: .boolean(.random(using: &generator))
            case 2: .integer(Int64.random(in: -1 << 50...1 << 50, using: &generator))
            case 3: .number(Double.random(in: -1e6...1e6, using: &generator) + 0.5e-7)
            case 4:
                .string(
                    String(
                        (0..<Int.random(in: 0..<9, using: &generator)).map { _ in
                            Character(Unicode.Scalar(UInt32.random(in: 1..<0xD7FF, using: &generator)) ?? "x")
                        }))
            case 5: .array((0..<Int.random(in: 0..<4, using: &generator)).map { _ in random(depth + 1) })
            default:
                .object(
                    JSONObject(
                        (0..<Int.random(in: 0..<4, using: &generator)).map {
                            ("k\($0)\"\\\n", random(depth + 1))
                        }))
            }
        }
        for _ in 0..<300 {
            let value = random(0)
            var writer = JSONWriter()
            writer.value(value)
            #expect(try JSONParser.parse(writer.bytes) == value)
        }
    }

    @Test func `a number that is not finite is never written`() {
        var writer = JSONWriter()
        writer.beginArray()
        writer.value(Double.nan)
        writer.value(Float.infinity)
        writer.value(-9.223372036854775808e18)
        writer.endArray()
        #expect(String(decoding: writer.bytes, as: UTF8.self) == "[null,null,-9.223372036854776e+18]")
    }

    @Test func `the object reader names the place and kind of what is wrong`() throws {
        var reader = try JSONObjectReader(parse(#"{"n":3,"s":5,"x/y~":1,"a":[1,2,3]}"#), at: "/r")
        #expect(try reader.optionalInteger("n", in: 0...5) == 3)
        #expect(throws: JSONSchemaError(.outOfRange, "/r/n", "expected 0 to 2")) {
            try reader.optionalInteger("n", in: 0...2)
        }
        #expect(throws: JSONSchemaError(.wrongType, "/r/s", "expected a string, found integer")) {
            try reader.string("s")
        }
        #expect(throws: JSONSchemaError(.missing, "/r/z", "required field is missing")) {
            try reader.string("z")
        }
        #expect(throws: JSONSchemaError(.outOfRange, "/r/a", "3 elements, at most 2")) {
            try reader.array("a", maximum: 2)
        }
        #expect(throws: JSONSchemaError(.unknownField, "/r/x~1y~0", "unknown field")) { try reader.finish() }
    }
}
