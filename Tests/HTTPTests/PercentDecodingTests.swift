import Testing

@testable import HTTP

struct PercentDecodingTests {
    @Test(arguments: [
        ("", ""), ("abc", "abc"), ("a%20b", "a b"), ("%C3%A9", "é"), ("%c3%a9", "é"), ("+", "+"),
        ("%25", "%"),
        ("%00", "\u{0}"), ("é", "é"),
    ])
    func `escapes become what they stand for`(text: String, expected: String) {
        #expect(PercentDecoding.decode(text) == expected)
    }

    @Test(arguments: [
        "%", "%2", "%zz", "%2g", "a%", "%%20", "%FF", "%C3", "%C0%80", "%ED%A0%80", "% 20", "%+1",
    ])
    func `broken escapes and broken UTF-8 are refused`(text: String) {
        #expect(PercentDecoding.decode(text) == nil)
    }

    @Test func `a query keeps repeated keys in order`() throws {
        let query = try #require(QueryString("a=1&b=x+y&a=2&&c&=d&e=f=g&%61=3"))
        #expect(query.all("a") == ["1", "2", "3"])
        #expect(query.first("b") == "x y")
        #expect(query.first("c")?.isEmpty == true)
        #expect(query.first("") == "d")
        #expect(query.first("e") == "f=g")
        #expect(query.first("z") == nil)
        #expect(QueryString(nil)?.parameters.isEmpty == true)
    }

    @Test func `a query is refused when broken or too long`() {
        #expect(QueryString("a=%") == nil)
        #expect(QueryString("%FF=1") == nil)
        #expect(QueryString("a&b&c", countMax: 3)?.parameters.count == 3)
        #expect(QueryString("a&b&c", countMax: 2) == nil)
    }
}
