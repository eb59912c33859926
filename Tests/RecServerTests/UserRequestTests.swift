import HTTP
import RecCore
import Testing
import UserState

@testable import RecServer

@Suite struct UserRequestTests {
    func read(_ body: String, isPatch: Bool, type: String = "application/json") throws(Problem) -> UserRequest
    {
        try UserRequest(
            HTTPRequest(
                method: isPatch ? "PATCH" : "PUT", path: "/users/u",
                headers: HTTPHeaders([("Content-Type", type)]), body: Array(body.utf8)), isPatch: isPatch)
    }

    /// Names by what becomes of them; nil where the features stay.
    func merged(_ body: String, type: String = "application/json") throws -> [String: FeatureValue?]? {
        switch try read(body, isPatch: true, type: type).features {
        case .merge(let features): return features
        case .replace(let features): return try #require(features.isEmpty ? ["replaced": .none] : nil)
        case nil: return nil
        }
    }

    @Test(
        arguments: [
            (#"{"features":{"a":"c"}}"#, ["a": .some(.string("c"))]),
            (#"{"features":{"a":null}}"#, ["a": nil]),
            (#"{"features":{"a":null,"z":3,"n":null}}"#, ["a": nil, "z": .some(.number(3)), "n": nil]),
            (#"{"features":{"a":["x","y"]}}"#, ["a": .some(.strings(["x", "y"]))]),
            (#"{"features":{}}"#, [:]), (#"{"features":null}"#, ["replaced": nil]), ("{}", nil),
            (#"{"consent":false}"#, nil),
        ] as [(String, [String: FeatureValue?]?)])
    func `a patch names what changes`(body: String, expected: [String: FeatureValue?]?) throws {
        for type in ["application/json", "application/merge-patch+json; charset=utf-8"] {
            #expect(try merged(body, type: type) == expected)
        }
    }

    @Test func `a replacement leaves no feature that it does not name`() throws {
        for (body, expected) in [
            (#"{"features":{"b":true}}"#, ["b": .boolean(true)]), ("{}", [:]), (#"{"features":null}"#, [:]),
            (#"{"features":{"b":null}}"#, [:]),
        ] as [(String, FeatureValues)] {
            guard case .replace(let features) = try read(body, isPatch: false).features else {
                Issue.record("no replacement")
                continue
            }
            #expect(features == expected)
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

    @Test(
        arguments: [
            ("", Problem.Kind.malformedJSON), ("{", .malformedJSON), ("[]", .wrongType), ("null", .wrongType),
            (#"{"consent":1}"#, .wrongType), (#"{"consent":"no"}"#, .wrongType),
            (#"{"consents":false}"#, .unknownField), (#"{"features":[]}"#, .wrongType),
            (#"{"features":{"a":{"b":1}}}"#, .wrongType), (#"{"features":{"a":[1]}}"#, .wrongType),
            (#"{"consent":true,"consent":false}"#, .malformedJSON), ("{\"features\":{\(many)}}", .outOfRange),
        ] as [(String, Problem.Kind)])
    func `a wrong body is refused`(body: String, kind: Problem.Kind) {
        for isPatch in [false, true] {
            var found: Problem?
            do throws(Problem) { _ = try read(body, isPatch: isPatch) } catch { found = error }
            #expect(found?.kind == kind)
        }
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
