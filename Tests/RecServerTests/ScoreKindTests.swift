import Artifacts
import Foundation
import Testing

@testable import RecServer

@Suite struct ScoreKindTests {
    static let known = RecommendPipelineTests.known
    static let candidates = RecommendPipelineTests.candidates

    /// The small bundle without its ranker.
    static func unranked() -> SmallBundle {
        var bundle = SmallBundle()
        let text = bundle.manifest
        bundle.manifest = text.replacing(/"ranker":[\s\S]*"tolerances"/, with: "\"tolerances\"")
        for name in bundle.tensors.keys where name.hasPrefix("ranker.") { bundle.tensors[name] = nil }
        return bundle
    }

    /// The small bundle with neither ranker nor history model.
    static func bare() -> SmallBundle {
        var bundle = unranked()
        bundle.manifest = bundle.manifest
            .replacing(/"sequence":\{"family"[\s\S]*"tolerances"/, with: "\"tolerances\"")
            .replacing("\"sequence\":20", with: "\"sequence\":0")
            .replacing(/\{"name":"s_\w+"[^}]*\},/, with: "")
        for name in bundle.tensors.keys where name.hasPrefix("sequence.") { bundle.tensors[name] = nil }
        return bundle
    }

    @Test func `scores are the sequence model's without a ranker, the target head's before the dot head's`()
        throws
    {
        let pipeline = try RecommendPipeline(try Self.unranked().snapshot())
        let answer = try pipeline.answer("{\(Self.known)}")
        #expect(answer.scoreKind == .sequence && answer.degraded.isEmpty)
        for item in answer.items {
            #expect(item.score == item.explanation?.sequenceScore.map(Double.init))
            #expect(item.explanation?.value == nil && item.explanation?.probabilities.isEmpty == true)
        }
        #expect(answer.items.map(\.score) == answer.items.map(\.score).sorted(by: >))
        // Without a history there is no sequence to score by.
        #expect(try pipeline.answer(#"{"user":{"age":30},"now":1}"#).scoreKind == .retrieval)
    }

    @Test func `scores are retrieval's without either, and popularity's without a user`() throws {
        let pipeline = try RecommendPipeline(try Self.bare().snapshot())
        let answer = try pipeline.answer("{\(Self.known)}")
        #expect(answer.scoreKind == .retrieval && answer.degraded.isEmpty)
        for item in answer.items {
            #expect(item.score == item.explanation?.retrievalScore.map(Double.init))
        }
        #expect(try pipeline.answer("{}").scoreKind == .popularity)
        #expect(try RecommendPipeline(try SmallBundle.loaded()).answer("{\(Self.known)}").scoreKind == .value)
    }

    static func calibrated(_ kind: String, _ z: Double) -> Double {
        let p = 1 / (1 + exp(-z))
        switch kind {
        case "platt": return 1 / (1 + exp(2 * z - 0.5))
        case "logit_offset": return 1 / (1 + exp(3 - z))
        case "isotonic": return p <= 0.6 ? 0.1 : p >= 0.9 ? 0.7 : 0.1 + (p - 0.6) / 0.3 * 0.6
        default: return p
        }
    }

    @Test(arguments: [
        ("none", ""), ("platt", #","a":-2,"b":0.5"#), ("logit_offset", #","offset":-3"#),
        ("isotonic", #","x":[0.2,0.6,0.9],"y":[0.1,0.1,0.7]"#),
    ])
    func `a calibration of the manifest is what the answer's probabilities went through`(
        kind: String, values: String
    ) throws {
        var bundle = SmallBundle()
        bundle.manifest = bundle.manifest.replacing(
            #"{"name":"view"}"#, with: #"{"name":"view","calibration":{"kind":"\#(kind)"\#(values)}}"#)
        // Logits on both sides of every corner.
        bundle.tensors["ranker.head.bias"] = .floats([1, 0], shape: [2])
        let pipeline = try RecommendPipeline(try bundle.snapshot())
        let text = "{\(Self.known),\"candidates\":[\(Self.candidates)]}"
        let logits = try #require(
            try pipeline.stages(of: try RecommendRequest(body: Array(text.utf8)))["ranker.logits"])
        let answer = try pipeline.answer(text)
        for item in answer.items {
            let row = Int(item.itemID.dropFirst())!
            let p = try #require(item.explanation?.probabilities.first?.probability)
            #expect(abs(p - Self.calibrated(kind, Double(logits[2 * row]))) < 1e-6)
        }
        #expect(Set(answer.items.map { $0.explanation?.probabilities.first?.probability }).count > 1)
    }

    @Test func `older events that were left out place the model's window`() throws {
        let pipeline = try RecommendPipeline(try SmallBundle.loaded())
        let events = (0..<30).map {
            #"{"item_id":"i\#($0 * 7 % 40)","timestamp":\#(1_699_990_000 + 100 * $0)}"#
        }
        func scores(_ from: Int, _ offset: Int) throws -> [Float?] {
            try pipeline.answer(
                #"{"history":[\#(events[from...].joined(separator: ","))],"history_offset":\#(offset),"now":1700000000,"candidates":[\#(Self.candidates)],"explain":true,"degrade":"never","weights":{"view":0,"like":0}}"#
            ).items.sorted { $0.itemID < $1.itemID }.map { $0.explanation?.sequenceScore }
        }
        // 16 events at most in steps of 4: the window of 30 begins at 16.
        let whole = try scores(0, 0)
        for first in [1, 10, 14, 16] { #expect(try scores(first, first) == whole) }
        #expect(try scores(10, 0) != whole && scores(18, 18) != whole)
    }
}
