import Artifacts
import Testing

@testable import RecServer

@Suite struct KeyRingTests {
    private static let digest = Digest.sha256(Array("a key".utf8))

    private func ring(_ text: String, previous: KeyRing? = nil) throws -> KeyRing {
        try KeyRing(json: Array(text.utf8), previous: previous)
    }

    private static func entry(_ name: String = "shop", key: String = "a key", _ rest: String = "") -> String {
        let digest = Digest.sha256(Array(key.utf8))
        return #"{"name":"\#(name)","sha256":"\#(digest)","roles":["read"]\#(rest)}"#
    }

    @Test func `a key finds its owner and nothing else does`() throws {
        let entries = (0..<100).map { Self.entry("k\($0)", key: "key \($0)") }
        let ring = try ring(#"{"keys":[\#(entries.joined(separator: ","))]}"#)
        for index in 0..<100 { #expect(ring.caller(key: "key \(index)")?.name == "k\(index)") }
        for key in ["", "key", "key 100", "key 1 ", "KEY 1", Digest.sha256(Array("key 1".utf8))] {
            #expect(ring.caller(key: key) == nil)
        }
        #expect(ring.anonymous == nil)
    }

    @Test func `an entry has its roles, rate, burst and end`() throws {
        let ring = try ring(
            #"{"keys":[{"name":"a.B-1_","sha256":"\#(Self.digest)","roles":["read","users"],"rate":2.5,"#
                + #""burst":7,"expires":1800000000.5}],"anonymous":{"roles":["read"],"rate":0.5}}"#)
        let caller = try #require(ring.caller(key: "a key"))
        #expect(caller.name == "a.B-1_" && caller.roles == [.read, .users])
        #expect(caller.expires == 1_800_000_000.5)
        #expect(caller.limit?.rate == 2.5 && caller.limit?.burst == 7)
        #expect(ring.anonymous?.roles == [.read] && ring.anonymous?.limit?.burst == 1)
    }

    @Test func `a ring without keys lets nobody in`() throws {
        let ring = try ring(#"{"keys":[]}"#)
        #expect(ring.callers.isEmpty && ring.caller(key: "") == nil)
    }

    private static let refused: [String] =
        [
            "", "{", "[]", "null", "{}", "\u{FEFF}{\"keys\":[]}", #"{"keys":[],}"#, #"{"keys":{}}"#,
            #"{"keys":[],"keys":[]}"#, #"{"keys":[],"more":1}"#, #"{"keys":[1]}"#, #"{"keys":[{}]}"#,
            #"{"keys":[{"name":"a","roles":["read"]}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest)"}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest.uppercased())","roles":[]}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest.dropLast())","roles":[]}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest)0","roles":[]}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest.dropLast())é","roles":[]}]}"#,
            #"{"keys":[{"name":"a","sha256":7,"roles":[]}]}"#,
            #"{"keys":[{"name":"a","key":"a key","roles":[]}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest)","roles":["root"]}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest)","roles":["read","read"]}]}"#,
            #"{"keys":[{"name":"a","sha256":"\#(digest)","roles":"read"}]}"#,
            #"{"keys":[\#(entry()),\#(entry(key: "other"))]}"#,
            #"{"keys":[\#(entry()),\#(entry("other"))]}"#,
            #"{"keys":[],"anonymous":{}}"#, #"{"keys":[],"anonymous":{"roles":["read"],"name":"x"}}"#,
            #"{"keys":[\#(String(repeating: "[", count: 200))"#,
        ]
        + [
            #""sha256":"\#(digest.dropLast())""#, #""sha256":"\#(digest)","common_name":"a""#,
            #""common_name":"""#, #""alternative_name":"a""#, #""alternative_name":"IP:127.0.0.1""#,
            #""common_name":7"#, #""key":"a""#, #""common_name":"a","burst":3"#,
            #""common_name":"a"},{"name":"b","roles":[],"common_name":"a""#,
            #""common_name":"a"},{"name":"a","roles":[],"common_name":"b""#,
        ].map { #"{"keys":[],"certificates":[{"name":"a","roles":[],\#($0)}]}"# }
        + ["", "a b", "a\\\"", "é", "a\\n", String(repeating: "a", count: 65), "anonymous"].map {
            #"{"keys":[\#(entry($0))]}"#
        }
        + [
            #""rate":0"#, #""rate":-1"#, #""rate":1000001"#, #""rate":"9""#, #""burst":5"#,
            #""rate":1,"burst":0.5"#, #""rate":1,"burst":1e9"#, #""expires":"tomorrow""#, #""expires":-1"#,
            #""roles":["read"]"#, #""note":"x""#,
        ].map { #"{"keys":[\#(entry("a", "," + $0))]}"# }

    @Test(arguments: refused)
    func `a file that is not what it must be is refused whole`(text: String) {
        #expect(throws: Configuration.Invalid.self) { try ring(text) }
    }

    @Test func `more keys than the maximum are refused`() throws {
        func text(_ count: Int) -> String {
            let entries = (0..<count).map { Self.entry("k\($0)", key: "\($0)") }
            return #"{"keys":[\#(entries.joined(separator: ","))]}"#
        }
        #expect(try ring(text(KeyRing.Limits.keys)).callers.count == KeyRing.Limits.keys)
        #expect(throws: Configuration.Invalid.self) { try ring(text(KeyRing.Limits.keys + 1)) }
    }

    @Test func `every prefix of a file is refused and nothing of a digest is in the reason`() throws {
        let text = Array(#"{"keys":[\#(Self.entry("shop", #","rate":9"#))],"anonymous":{"roles":[]}}"#.utf8)
        for end in 0..<text.count {
            let error = #expect(throws: Configuration.Invalid.self) { try KeyRing(json: Array(text[..<end])) }
            #expect(error?.description.contains(Self.digest.prefix(8)) == false)
        }
        #expect(try KeyRing(json: text).callers.count == 1)
    }

    @Test func `a new ring keeps the counts of a name, and its budget where the rate is the same`() throws {
        let old = try ring(#"{"keys":[\#(Self.entry("a", #","rate":1"#)),\#(Self.entry("b", key: "b"))]}"#)
        let used = try #require(old.caller(key: "a key"))
        used.counters.allowed.add()
        #expect(used.limit?.take(now: 0) == nil)
        let same = try ring(#"{"keys":[\#(Self.entry("a", key: "new", #","rate":1"#))]}"#, previous: old)
        let kept = try #require(same.caller(key: "new"))
        #expect(kept.counters.allowed.value == 1)
        #expect(kept.limit?.take(now: 0) == 1)
        #expect(same.caller(key: "a key") == nil && same.caller(key: "b") == nil)
        let faster = try ring(#"{"keys":[\#(Self.entry("a", key: "new", #","rate":2"#))]}"#, previous: same)
        #expect(faster.caller(key: "new")?.limit?.take(now: 0) == nil)
    }
}
