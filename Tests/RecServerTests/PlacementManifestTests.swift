import Artifacts
import Testing

@testable import RecServer

@Suite struct PlacementManifestTests {
    func refusal(_ sections: String) throws -> BundleError? {
        do {
            _ = try SmallBundle(adding: sections).snapshot(["--verify-goldens", "off"])
            return nil
        } catch let error as BundleError {
            return error
        }
    }

    @Test(
        arguments: [
            (#"[]"#, ""), (#"{"a b":{}}"#, "/a b"), (#"{"":{}}"#, "/"), (#"{"p":[]}"#, "/p"),
            (#"{"p":{"x":1}}"#, "/p/x"), (#"{"p":{"diversity":1.5}}"#, "/p/diversity"),
            (#"{"p":{"weights":{"buy":1}}}"#, "/p/weights/buy"),
            (#"{"p":{"weights":{"view":"1"}}}"#, "/p/weights/view"),
            (#"{"p":{"weights":{"view":1e7}}}"#, "/p/weights/view"),
            (#"{"p":{"quotas":{"scan":1}}}"#, "/p/quotas/scan"),
            (#"{"p":{"quotas":{"tower":-1}}}"#, "/p/quotas/tower"),
            (#"{"p":{"quotas":{"popular":10001}}}"#, "/p/quotas/popular"),
            (#"{"p":{"filter":{"field":"colour","in":["x"]}}}"#, "/p/filter"),
            (#"{"p":{"filter":{"field":"title","in":["x"]}}}"#, "/p/filter"),
            (#"{"p":{"filter":{"field":"year","in":["x"]}}}"#, "/p/filter"),
            (#"{"p":{"filter":{"all":[{"field":"year"}]}}}"#, "/p/filter/all/0"),
            (#"{"p":{"pins":[{"position":1,"item_id":"nope"}]}}"#, "/p/pins/0"),
            (#"{"p":{"pins":[{"item_id":"i1"}]}}"#, "/p/pins/0/position"),
            (#"{"p":{"pins":[{"position":0,"item_id":"i1"}]}}"#, "/p/pins/0/position"),
            (#"{"p":{"pins":[{"position":500,"item_ids":["i1","i2"]}]}}"#, "/p/pins/0/position"),
            (#"{"p":{"pins":[{"position":1}]}}"#, "/p/pins/0/item_ids"),
            (#"{"p":{"pins":[{"position":1,"item_ids":[]}]}}"#, "/p/pins/0/item_ids"),
            (#"{"p":{"pins":[{"position":1,"item_ids":["i1",""]}]}}"#, "/p/pins/0/item_ids/1"),
            (#"{"p":{"pins":[{"position":1,"item_id":"i1","item_ids":["i2"]}]}}"#, "/p/pins/0/item_ids"),
            (#"{"p":{"pins":[{"position":1,"item_id":"i1"},{"position":2,"item_id":"i1"}]}}"#, "/p/pins/1"),
            (
                #"{"p":{"pins":[{"position":1,"item_ids":["i1","i2"]},{"position":2,"item_id":"i3"}]}}"#,
                "/p/pins/1/position"
            ),
            (#"{"p":{"boosts":[{"factor":2}]}}"#, "/p/boosts/0/filter"),
            (#"{"p":{"boosts":[{"filter":{"all":[]}}]}}"#, "/p/boosts/0"),
            (#"{"p":{"boosts":[{"filter":{"all":[]},"factor":0}]}}"#, "/p/boosts/0/factor"),
            (#"{"p":{"boosts":[{"filter":{"field":"x","in":[1]},"add":1}]}}"#, "/p/boosts/0/filter"),
            (#"{"p":{"caps":[{"attribute":"colour","max":1}]}}"#, "/p/caps/0/attribute"),
            (#"{"p":{"caps":[{"attribute":"title","max":1}]}}"#, "/p/caps/0/attribute"),
            (#"{"p":{"caps":[{"attribute":"year"}]}}"#, "/p/caps/0/max"),
            (#"{"p":{"caps":[{"attribute":"year","max":0}]}}"#, "/p/caps/0/max"),
            (
                #"{"p":{"caps":[{"attribute":"year","max":1},{"attribute":"year","max":2}]}}"#,
                "/p/caps/1/attribute"
            ),
        ])
    func `a placement that does not fit refuses the bundle with its place`(text: String, place: String)
        throws
    {
        let error = try refusal("\"placements\":\(text)")
        #expect(error?.file == "manifest.json")
        #expect(error?.tensor == "/placements" + place)
    }

    @Test(
        arguments: [
            (#"{}"#, "/salt"), (#"{"salt":"s"}"#, "/variants"), (#"{"salt":"s","variants":[]}"#, "/variants"),
            (#"{"salt":"s","variants":[{"name":"a","share":0}]}"#, "/variants"),
            (#"{"salt":"","variants":[{"name":"a","share":1}]}"#, "/salt"),
            (#"{"salt":"s","variants":[{"name":"a b","share":1}]}"#, "/variants/0/name"),
            (#"{"salt":"s","variants":[{"name":"a"}]}"#, "/variants/0/share"),
            (#"{"salt":"s","variants":[{"name":"a","share":-1}]}"#, "/variants/0/share"),
            (#"{"salt":"s","variants":[{"name":"a","share":1},{"name":"a","share":1}]}"#, "/variants/1/name"),
            (#"{"salt":"s","variants":[{"name":"a","share":1,"x":1}]}"#, "/variants/0/x"),
            (#"{"salt":"s","variants":[{"name":"a","share":1,"placement":"p"}]}"#, "/variants/0/placement"),
            (
                #"{"salt":"s","variants":[{"name":"a","share":1,"weights":{"buy":1}}]}"#,
                "/variants/0/weights/buy"
            ),
        ])
    func `an experiment that does not fit refuses the bundle with its place`(text: String, place: String)
        throws
    {
        #expect(try refusal("\"experiment\":\(text)")?.tensor == "/experiment" + place)
    }

    @Test func `every list is taken at its maximum and refused one above`() throws {
        func list(_ count: Int, _ element: (Int) -> String) -> String {
            "[" + (0..<count).map(element).joined(separator: ",") + "]"
        }
        func placements(_ count: Int) -> String {
            "{" + (0..<count).map { "\"p\($0)\":{}" }.joined(separator: ",") + "}"
        }
        let boost = { (_: Int) in #"{"filter":{"all":[]},"factor":2}"# }
        let arm = { (index: Int) in #"{"name":"a\#(index)","share":1}"# }
        #expect(try refusal("\"placements\":\(placements(64))") == nil)
        #expect(try refusal("\"placements\":\(placements(65))")?.tensor == "/placements")
        #expect(try refusal("\"placements\":{\"p\":{\"boosts\":\(list(32, boost))}}") == nil)
        #expect(
            try refusal("\"placements\":{\"p\":{\"boosts\":\(list(33, boost))}}")?.tensor
                == "/placements/p/boosts")
        #expect(try refusal("\"experiment\":{\"salt\":\"s\",\"variants\":\(list(32, arm))}") == nil)
        #expect(
            try refusal("\"experiment\":{\"salt\":\"s\",\"variants\":\(list(33, arm))}")?.tensor
                == "/experiment/variants")
    }

    @Test func `a placement may search by the sequence model where the bundle itself does not`() throws {
        var bundle = SmallBundle(adding: #""placements":{"p":{"quotas":{"sequence":20}}}"#)
        bundle.manifest = bundle.manifest.replacing("\"sequence\":20,\"item", with: "\"sequence\":0,\"item")
        let pipeline = try RecommendPipeline(try bundle.snapshot())
        let text = "{\(RecommendPipelineTests.known),\"placement\":\"p\"}"
        let sources = try pipeline.answer(text).items.flatMap { $0.explanation?.sources ?? [] }
        #expect(sources.contains("sequence"))
    }
}
