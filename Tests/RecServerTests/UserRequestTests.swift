import HTTP
import RecCore
import Testing

@testable import RecServer

@Suite struct UserRequestTests {
    func read(_ body: String, isPatch: Bool, type: String = "application/json") throws(Problem) -> UserRequest
    {
        try UserRequest(
            HTTPRequest(
                method: isPatch ? "PATCH" : "PUT", path: "/users/u",
                headers: HTTPHeaders([("Content-Type", type)]), body: Array(body.utf8)), isPatch: isPatch)
    }

    static let old: FeatureValues = ["a": .string("b"), "n": .number(1)]

    @Test(
        arguments: [
            // The cases of RFC 7396's appendix that these members can have.
            (#"{"features":{"a":"c"}}"#, ["a": .string("c"), "n": .number(1)]),
            (#"{"features":{"b":"c"}}"#, ["a": .string("b"), "b": .string("c"), "n": .number(1)]),
            (#"{"features":{"a":null}}"#, ["n": .number(1)]),
            (#"{"features":{"a":null,"z":null,"n":null}}"#, [:]),
            (#"{"features":{"a":["x","y"]}}"#, ["a": .strings(["x", "y"]), "n": .number(1)]),
            (#"{"features":{}}"#, old), (#"{"features":null}"#, [:]),
            (#"{"consent":false}"#, nil), ("{}", nil),
        ] as [(String, FeatureValues?)])
    func `a patch is merged`(body: String, expected: FeatureValues?) throws {
        for type in ["application/json", "application/merge-patch+json; charset=utf-8"] {
            let patch = try read(body, isPatch: true, type: type)
            #expect(try patch.features(of: Self.old) == expected)
        }
    }

    @Test func `a replacement leaves no feature that it does not name`() throws {
        for (body, expected) in [
            (#"{"features":{"b":true}}"#, ["b": .boolean(true)]), ("{}", [:]), (#"{"features":null}"#, [:]),
            (#"{"features":{"b":null}}"#, [:]),
        ] as [(String, FeatureValues)] {
            #expect(try read(body, isPatch: false).features(of: Self.old) == expected)
        }
    }

    @Test func `consent is what is said and nothing else`() throws {
        for isPatch in [false, true] {
            #expect(try read(#"{"consent":true}"#, isPatch: isPatch).hasConsent == true)
            #expect(try read(#"{"consent":false}"#, isPatch: isPatch).hasConsent == false)
            #expect(try read("{}", isPatch: isPatch).hasConsent == nil)
        }
        #expect(try read(#"{"consent":null}"#, isPatch: false).hasConsent == nil)
    }

    static let many = (0...256).map { "\"f\($0)\":1" }.joined(separator: ",")
    static let long = String(repeating: "x", count: 65_536)

    @Test(
        arguments: [
            ("", Problem.Kind.malformedJSON), ("{", .malformedJSON), ("[]", .wrongType), ("null", .wrongType),
            (#"{"consent":1}"#, .wrongType), (#"{"consent":"no"}"#, .wrongType),
            (#"{"consents":false}"#, .unknownField), (#"{"features":[]}"#, .wrongType),
            (#"{"features":{"a":{"b":1}}}"#, .wrongType), (#"{"features":{"a":[1]}}"#, .wrongType),
            (#"{"consent":true,"consent":false}"#, .malformedJSON), ("{\"features\":{\(many)}}", .outOfRange),
            ("{\"features\":{\"a\":\"\(long)\"}}", .outOfRange),
        ] as [(String, Problem.Kind)])
    func `a wrong body is refused`(body: String, kind: Problem.Kind) {
        for isPatch in [false, true] {
            var found: Problem?
            do throws(Problem) { _ = try read(body, isPatch: isPatch) } catch { found = error }
            #expect(found?.kind == kind)
        }
    }

    @Test func `a patch may not make more than a user may have`() throws {
        let full = FeatureValues(uniqueKeysWithValues: (0..<256).map { ("f\($0)", .number(1)) })
        let patch = try read(#"{"features":{"g":1}}"#, isPatch: true)
        #expect(throws: Problem.self) { try patch.features(of: full) }
        #expect(try read(#"{"features":{"g":1,"f0":null}}"#, isPatch: true).features(of: full)?.count == 256)
        let long = ["a": FeatureValue.string(String(repeating: "x", count: 65_534))]
        #expect(throws: Problem.self) { try patch.features(of: long.merging(["b": .boolean(true)]) { $1 }) }
    }

    @Test func `only JSON is taken, and merge patches where they are meant`() {
        for (type, isPatch) in [
            ("text/plain", true), ("", true), ("application/merge-patch+json", false),
            ("application/json-patch+json", true),
        ] {
            #expect(throws: Problem.self) { try read("{}", isPatch: isPatch, type: type) }
        }
    }
}
