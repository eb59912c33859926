import Artifacts
import Kernels
import RecCore
import Retrieval
import TestSupport
import Testing
import Threading

@testable import RecServer

@Suite struct RecommendPipelineTests {
    let snapshot: Snapshot
    let pipeline: RecommendPipeline

    init() throws {
        snapshot = try SmallBundle.loaded()
        pipeline = try RecommendPipeline(snapshot)
    }

    static let candidates = (0..<SmallBundle.items).map { #"{"item_id":"i\#($0)"}"# }.joined(separator: ",")
    static let known =
        #""user_id":"u6","context":{"device":"tv"},"now":1700000000,"degrade":"never","explain":true"#

    /// Rows, most popular first, equal ones by row.
    static var popular: [Int] {
        (0..<SmallBundle.items).sorted {
            let (a, b) = (SmallBundle.popularity($0), SmallBundle.popularity($1))
            return a != b ? a > b : $0 < $1
        }
    }

    func ids(_ recommendation: Recommendation) -> [String] { recommendation.items.map(\.itemID) }

    func expectSame(_ a: [Double], _ b: [Double], at location: SourceLocation = #_sourceLocation) {
        #expect(
            a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-5 * (1 + abs($1)) },
            "\(a) and \(b)", sourceLocation: location)
    }

    @Test func `a request that says nothing gets the popular list`() throws {
        for text in ["", "{}", #"{"user_id":"nobody"}"#] {
            let answer = try pipeline.answer(text)
            #expect(answer.scoreKind == .popularity && answer.degraded.isEmpty && !answer.isShort)
            #expect(ids(answer) == Self.popular.prefix(20).map { "i\($0)" })
            #expect(
                answer.items.map(\.score)
                    == Self.popular.prefix(20).map { Double(SmallBundle.popularity($0)) })
        }
        let filtered = try pipeline.answer(
            #"{"filter":{"field":"genres","in":["war"]},"exclude":["i2"],"n":30,"explain":true}"#)
        #expect(ids(filtered) == Self.popular.filter { $0 % 3 == 2 && $0 != 2 }.map { "i\($0)" })
        #expect(filtered.isShort)
    }

    @Test func `a known user gets unseen items by value, the best first`() throws {
        let answer = try pipeline.answer("{\(Self.known),\"fields\":[\"title\",\"year\"]}")
        #expect(answer.scoreKind == .value && answer.degraded.isEmpty && !answer.isShort)
        #expect(answer.items.count == 20 && Set(ids(answer)).count == 20)
        #expect(answer.history.events == 6 && answer.history.unknown == 0)
        let seen = Set(SmallBundle.events(of: 6).map { "i\($0.row)" })
        #expect(seen.isDisjoint(with: ids(answer)))
        #expect(answer.items.map(\.score) == answer.items.map(\.score).sorted(by: >))
        for item in answer.items {
            let row = Int(item.itemID.dropFirst())!
            #expect(item.attributes.first?.value == .string("Title \(row)"))
            #expect(item.attributes.count == (row % 4 == 0 ? 1 : 2))
            let explanation = try #require(item.explanation)
            #expect(!explanation.sources.isEmpty && explanation.value == item.score)
            let p = explanation.probabilities.map(\.probability)
            #expect(explanation.probabilities.map(\.task) == ["view", "like"])
            #expect(abs(p[0] + 0.5 * p[1] - item.score) < 1e-12)
        }
        #expect(answer.trace?.stages.last?.count == 20)
    }

    @Test(arguments: ["", #","query_items":["i3","i9"]"#, #","history":[]"#])
    func `explain agrees with the stages that goldens are compared with`(extra: String) throws {
        let text = "{\(Self.known)\(extra),\"candidates\":[\(Self.candidates)]}"
        let answer = try pipeline.answer(text)
        let stages = try pipeline.stages(of: try RecommendRequest(body: Array(text.utf8)))
        #expect(answer.items.count == SmallBundle.items && answer.unknownCandidates == [])
        #expect(stages["tower.user_vector"]?.count == 8 && stages["ranker.features"]?.count == 40 * 21)
        let value = try #require(stages["value"]),
            probabilities = try #require(stages["ranker.probabilities"])
        let order = value.indices.sorted { value[$0] != value[$1] ? value[$0] > value[$1] : $0 < $1 }
        #expect(ids(answer) == order.map { "i\($0)" })
        for item in answer.items {
            let row = Int(item.itemID.dropFirst())!
            let explanation = try #require(item.explanation)
            #expect(explanation.sources == ["request"])
            expectSame([item.score], [Double(value[row])])
            expectSame(
                explanation.probabilities.map(\.probability),
                probabilities[2 * row..<2 * row + 2].map(Double.init))
            // A user without history has sequence scores of 0 in the stages and none in the answer.
            #expect(explanation.sequenceScore ?? 0 == stages["sequence.score"]?[row])
            #expect(explanation.sequenceDot ?? 0 == stages["sequence.dot"]?[row])
            if !extra.contains("query_items") {
                #expect(explanation.retrievalScore == stages["tower.score"]?[row])
            }
        }
    }

    @Test func `an answer without candidates gives each item what it gets as a candidate`() throws {
        let found = try pipeline.answer("{\(Self.known)}")
        let ranked = try pipeline.answer("{\(Self.known),\"candidates\":[\(Self.candidates)]}")
        let scores = Dictionary(uniqueKeysWithValues: ranked.items.map { ($0.itemID, $0.score) })
        for item in found.items { expectSame([item.score], [try #require(scores[item.itemID])]) }
    }

    @Test func `no score depends on the microbatch`() throws {
        let text = "{\(Self.known),\"candidates\":[\(Self.candidates)]}"
        let all = try pipeline.answer(text)
        for size in ["1", "7", "1024"] {
            let other = try RecommendPipeline(snapshot, ["--microbatch", size]).answer(text)
            #expect(ids(other) == ids(all))
            expectSame(other.items.map(\.score), all.items.map(\.score))
        }
    }

    @Test func `query items do not change what is thought of given candidates`() throws {
        let plain = try pipeline.answer("{\(Self.known),\"candidates\":[\(Self.candidates)]}")
        let basket = try pipeline.answer(
            "{\(Self.known),\"candidates\":[\(Self.candidates)],\"query_items\":[\"i1\",\"none\",\"i2\"]}")
        #expect(ids(basket) == ids(plain) && basket.unknownQueryItems == ["none"])
        for (a, b) in zip(plain.items, basket.items) {
            #expect(
                a.explanation?.probabilities.map(\.probability)
                    == b.explanation?.probabilities.map(\.probability))
            #expect(a.explanation?.retrievalScore != b.explanation?.retrievalScore)
        }
    }

    @Test func `an answer does not depend on the requests before it`() throws {
        let texts = [
            "{\(Self.known)}", "{}", "{\(Self.known),\"query_items\":[\"i3\"]}",
            #"{"user":{"age":30},"now":1}"#,
            "{\(Self.known),\"candidates\":[\(Self.candidates)],\"n\":5}", #"{"user_id":"u0","now":1}"#,
        ]
        var random = SeededRandom(4)
        var first: [String: [Double]] = [:]
        for _ in 0..<40 {
            let text = texts.randomElement(using: &random)!
            let answer = try pipeline.answer(text)
            let scores = answer.items.map(\.score)
            #expect(first[text, default: scores] == scores)
            #expect(answer.degraded.isEmpty)
            first[text] = scores
        }
    }

    @Test(arguments: ["war", "drama"])
    func `a filter that starves the sources is answered in full, short only when the catalogue is`(
        genre: String
    ) throws {
        let filter =
            #""filter":{"all":[{"field":"genres","in":["\#(genre)"]},{"field":"year","gte":1990}]},"exclude_seen":false"#
        let matching = (0..<SmallBundle.items).filter {
            SmallBundle.genre($0) == genre && $0 % 4 != 0 && $0 >= 10
        }
        for n in [1, matching.count, matching.count + 1, 40] {
            let answer = try pipeline.answer("{\(Self.known),\(filter),\"n\":\(n)}")
            #expect(answer.items.count == min(n, matching.count))
            #expect(answer.isShort == (n > matching.count))
            #expect(Set(ids(answer)).isSubset(of: matching.map { "i\($0)" }))
        }
        let none = try pipeline.answer(#"{\#(Self.known),"filter":{"field":"genres","in":["opera"]}}"#)
        #expect(none.items.isEmpty && none.isShort)
    }

    @Test func `a passed deadline is a problem for those who allow no lesser answer, else the popular list`()
        throws
    {
        for text in ["{\(Self.known),\"deadline_ms\":1}", #"{"deadline_ms":1,"degrade":"never"}"#] {
            var problem: Problem?
            do throws(Problem) { _ = try pipeline.answer(text, age: 5_000_000) } catch { problem = error }
            #expect(problem?.kind == .deadline)
        }
        let answer = try pipeline.answer(
            #"{"user_id":"u6","deadline_ms":1,"exclude_seen":false}"#, age: 5_000_000)
        #expect(answer.scoreKind == .popularity && answer.degraded == [.popular])
        #expect(ids(answer) == Self.popular.prefix(20).map { "i\($0)" })
    }

    @Test func `after any number of late requests one in time is answered in full`() throws {
        for _ in 0..<300 { _ = try pipeline.answer(#"{"user_id":"u6","deadline_ms":1}"#, age: 5_000_000) }
        #expect(try pipeline.answer(#"{"user_id":"u6"}"#).degraded.isEmpty)
    }

    @Test func `weights of the request order the page`() throws {
        let base = "\(Self.known),\"candidates\":[\(Self.candidates)]"
        for (weights, task) in [(#"{"view":0,"like":1}"#, 1), (#"{"view":1,"like":0}"#, 0)] {
            let answer = try pipeline.answer("{\(base),\"weights\":\(weights)}")
            for item in answer.items {
                #expect(item.score == item.explanation?.probabilities[task].probability)
            }
        }
        let reversed = try pipeline.answer("{\(base),\"weights\":{\"view\":-1,\"like\":-0.5}}")
        #expect(ids(reversed) == ids(try pipeline.answer("{\(base)}")).reversed())
    }

    @Test func `no candidates give an empty answer, not a popular one`() throws {
        let answer = try pipeline.answer(#"{"candidates":[],"explain":true}"#)
        #expect(answer.items.isEmpty && !answer.isShort && answer.unknownCandidates == [])
        let unknown = try pipeline.answer(#"{"candidates":[{"item_id":"x"}],"n":5}"#)
        #expect(unknown.items.isEmpty && unknown.isShort && unknown.unknownCandidates == ["x"])
    }

    @Test func `similar items are the nearest by cosine, without the item itself`() throws {
        let vectors = (0..<SmallBundle.items).map { snapshot.retrieval.table.vectors.copyRow($0) }
        func cosine(_ a: Int, _ b: Int) -> Double {
            func dot(_ x: [Float], _ y: [Float]) -> Double {
                zip(x, y).reduce(0) { $0 + Double($1.0 * $1.1) }
            }
            return dot(vectors[a], vectors[b])
                / (dot(vectors[a], vectors[a]) * dot(vectors[b], vectors[b])).squareRoot()
        }
        let answer = try pipeline.similar(
            try SimilarRequest(itemID: "i5", query: "n=10&exclude=i6&exclude=zz"))
        let expected = (0..<SmallBundle.items).filter { $0 != 5 && $0 != 6 }.sorted {
            cosine(5, $0) > cosine(5, $1)
        }
        #expect(answer.items.map(\.itemID) == expected.prefix(10).map { "i\($0)" } && !answer.isShort)
        expectSame(answer.items.map(\.score), expected.prefix(10).map { cosine(5, $0) })
        #expect(try pipeline.similar(try SimilarRequest(itemID: "i5", query: "n=40")).isShort)
        #expect(throws: Problem(.unknownItem, "no such item")) {
            try pipeline.similar(try SimilarRequest(itemID: "i99", query: nil))
        }
    }

    @Test func `a tower without layers passes its input on`() throws {
        let pipeline = try RecommendPipeline(try SmallBundle(towerLayers: 0).snapshot())
        let text = "{\(Self.known),\"candidates\":[\(Self.candidates)]}"
        let vector = try #require(
            try pipeline.stages(of: try RecommendRequest(body: Array(text.utf8)))["tower.user_vector"])
        let recent = SmallBundle.events(of: 6).suffix(4).map {
            snapshot.retrieval.table.vectors.copyRow($0.row)
        }
        let mean = (0..<8).map { column in recent.reduce(0.0) { $0 + Double($1[column]) } / 4 }
        let norm = mean.reduce(0) { $0 + $1 * $1 }.squareRoot()
        expectSame(vector.map(Double.init), mean.map { $0 / norm })
    }
}
