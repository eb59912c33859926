import Features
import HTTP
import JSON
import Ranking
import RecCore
import Retrieval
import Testing

@testable import RecServer

@Suite struct ProblemTests {
    static let secret = "secret inner words"

    func text(_ problem: Problem) -> String {
        String(decoding: problem.encoded(requestID: "r1"), as: UTF8.self)
    }

    @Test(
        arguments: [
            (RetrievalError.unknownFilterField("a"), 422, "/filter"), (.notFilterable("a"), 422, "/filter"),
            (.filterType(field: "a", expected: "b"), 400, "/filter"), (.filterTooLarge, 400, "/filter"),
            (.notFinite, 400, "/user"), (.dimensionMismatch(expected: 31_337, found: 2), 500, nil),
            (.invalidIndex(expected: secret, found: "x"), 500, nil),
            (.faiss(call: "search", reason: secret), 500, nil),
        ] as [(RetrievalError, Int, String?)])
    func `a retrieval failure is the caller's with a pointer, or ours without a word of it`(
        error: RetrievalError, status: Int, pointer: String?
    ) {
        let problem = Problem(error)
        #expect(problem.kind.status == status)
        #expect(problem.errors.map(\.pointer) == (pointer.map { [$0] } ?? []))
        if status == 500 {
            #expect(problem.detail == error.description)
            #expect(!text(problem).contains(Self.secret) && !text(problem).contains("31337"))
            #expect(!text(problem).contains("\"detail\""))
        }
    }

    @Test(
        arguments: [
            (RankingError.unknownTask("a/b"), 422, "/weights/a~1b"),
            (.weightNotFinite(task: "t~"), 400, "/weights/t~0"),
            (.tooManyCandidates(count: 9, maximum: 3), 400, "/candidates"),
            (.feature(.arrayNotAllowed(feature: "f", key: "age")), 400, "/user/age"),
            (.feature(.outOfRange(feature: "f", key: "device")), 400, "/context/device"),
            (.feature(.outOfRange(feature: "f", key: "price/kg")), 400, "/candidates/1/features/price~1kg"),
        ] as [(RankingError, Int, String)])
    func `a ranking failure names the place in the request`(
        error: RankingError, status: Int, pointer: String
    ) throws {
        let request = try RecommendRequest(
            body: Array(
                #"{"user":{"age":1},"context":{"age":2,"device":"tv"},"candidates":[{"item_id":"i1"},{"item_id":"i2","features":{"price/kg":1}}]}"#
                    .utf8))
        let problem = Problem(error, request)
        #expect(problem.kind.status == status && problem.errors.map(\.pointer) == [pointer])
    }

    @Test func `every kind has a client or server status, a title and a name of its own`() {
        for kind in Problem.Kind.allCases {
            #expect((400...505).contains(kind.status) && !kind.title.isEmpty)
            #expect(text(Problem(kind)).contains("urn:recserver:problem:\(kind.rawValue)\""))
        }
        #expect(Set(Problem.Kind.allCases.map(\.title)).count == Problem.Kind.allCases.count)
    }

    @Test func `a body says what is wrong in strict JSON, and nothing when it is our fault`() throws {
        let problem = Problem(.wrongType, "d\"\u{1}", errors: [.init(pointer: "/a", detail: "b")])
        _ = try JSONParser.parse(problem.encoded(requestID: "r1"))
        #expect(text(problem).contains(#""errors":[{"pointer":"/a","detail":"b"}]"#))
        #expect(!text(Problem(.internalError, Self.secret)).contains(Self.secret))
    }
}

@Suite struct SimilarRequestTests {
    static let manyFields = (0...64).map { "fields=f\($0)" }.joined(separator: "&")
    static let manyExcluded = (0...10_000).map { "exclude=\($0)" }.joined(separator: "&")

    @Test func `without a query everything has its default`() throws {
        for query in [nil, ""] {
            let request = try SimilarRequest(itemID: "i1", query: query)
            #expect(request.count == 20 && request.fields == ["title"] && request.exclude.isEmpty)
            #expect(request.filter == nil && request.itemID == "i1")
        }
    }

    @Test func `every parameter is read`() throws {
        let request = try SimilarRequest(
            itemID: "i1",
            query: "n=7&exclude=a%26b&exclude=c+d&fields=year&fields=title&filter=%7B%22field%22%3A%22g%22%2C"
                + "%22in%22%3A%5B1%5D%7D")
        #expect(
            request.count == 7 && request.exclude == ["a&b", "c d"] && request.fields == ["year", "title"])
        #expect(request.filter == .isIn(field: "g", values: [.number(1)]))
        #expect(try SimilarRequest(itemID: "i", query: "fields=").fields.isEmpty)
        #expect(try SimilarRequest(itemID: "i", query: "fields=&fields=a").fields == ["a"])
        #expect(try SimilarRequest(itemID: "i", query: "fields=a&fields=").fields == ["a"])
    }

    @Test(
        arguments: [
            ("n=0", Problem.Kind.outOfRange, "/n"), ("n=501", .outOfRange, "/n"), ("n=x", .wrongType, "/n"),
            ("n=", .wrongType, "/n"), ("n=3.0", .wrongType, "/n"),
            ("n=99999999999999999999", .wrongType, "/n"),
            ("n=1&n=2", .outOfRange, "/n"), ("filter=%7B", .wrongType, "/filter"),
            ("filter={}", .outOfRange, "/filter"), ("filter=3", .wrongType, "/filter"),
            ("filter={}&filter={}", .outOfRange, "/filter"), ("exclude=", .outOfRange, "/exclude"),
            ("m=1", .unknownField, "/m"), ("a%2Fb=1", .unknownField, "/a~1b"), ("n=%zz", .badRequest, nil),
            ("fields=%ff", .badRequest, nil), (manyFields, .outOfRange, "/fields"),
            (manyExcluded, .outOfRange, "/exclude"),
        ] as [(String, Problem.Kind, String?)])
    func `a wrong query is refused with its pointer`(query: String, kind: Problem.Kind, pointer: String?) {
        var problem: Problem?
        do throws(Problem) { _ = try SimilarRequest(itemID: "i", query: query) } catch { problem = error }
        #expect(problem?.kind == kind)
        #expect(problem?.errors.first?.pointer == pointer)
    }
}
