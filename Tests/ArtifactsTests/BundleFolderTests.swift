import Foundation
import JSON
import Kernels
import TestSupport
import Testing

@testable import Artifacts

@Suite struct BundleFolderTests {
    /// A valid manifest naming `files`.
    func manifest(_ files: [String: [UInt8]], _ edit: (inout String) -> Void = { _ in }) -> [UInt8] {
        let entries = files.sorted { $0.key < $1.key }.map { name, bytes in
            "\"\(name)\":{\"sha256\":\"\(Digest.sha256(bytes))\",\"bytes\":\(bytes.count)}"
        }
        var text = """
            {"format_version":1,"kind":"full","model_version":"m-1","space_version":"s-1","info":{"any":[1,{"x":null}]},
            "files":{\(entries.joined(separator: ","))},
            "items":{"count":2,"attributes":[{"name":"title","type":"string"},{"name":"year","type":"number","filterable":true}]},
            "users":{"count":1,"histories":false},
            "features":[{"name":"age","from":"user","encode":"bins","boundaries":[1,2.5],"dimension":3},
              {"name":"kind","from":"item","encode":"vocabulary","vocabulary":["a","b"],"dimension":2,"pooling":"mean"},
              {"name":"recent","from":"history","encode":"pool","table":"item.vector","dimension":4,"last":5,"pooling":"mean"},
              {"name":"score","from":"stage","encode":"stage","stage":"tower.score","std":2}],
            "retrieval":{"metric":"inner_product","dimension":4,"index":{"kind":"flat"},"sources":{"tower":10,"popular":5}},
            "tower":{"inputs":["age","recent"],"layers":1},
            "sequence":{"family":"hstu","dimension":4,"layers":1,"heads":2,"max_events":8,"window_block":4,"actions":["unknown","watch"],
              "dot":{"normalize":"l2","temperature":0.05},"target":true,"qk_dimension":2,"value_dimension":2,"normalizer":9,"position_bias":true,"time_bias":true},
            "ranker":{"family":"dcn_v2","inputs":["kind","score"],"structure":"stacked","cross_layers":1,"deep":[4],
              "tasks":[{"name":"watch","calibration":{"kind":"isotonic","x":[0,1],"y":[0.1,0.9]}}]},
            "value":{"form":"linear","weights":{"watch":1}}}
            """
        edit(&text)
        return Array(text.utf8)
    }

    func inFolder(_ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "recserver-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    func write(_ bytes: [UInt8], _ path: String) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }

    var model: [UInt8] {
        var writer = SafeTensorsWriter()
        writer.add("m", Matrix(rows: 1, columns: 2, values: [1, 2]))
        return writer.file()
    }

    @Test func `a folder is opened, its digest is the manifest's`() throws {
        try inFolder { path in
            let text = manifest(["model.safetensors": model])
            try write(text, path + "/manifest.json")
            try write(model, path + "/model.safetensors")
            try write([1], path + "/.hidden")
            let folder = try BundleFolder(path: path)
            #expect(folder.digest == Digest.sha256(text))
            #expect(folder.manifest.modelVersion == "m-1" && folder.manifest.items.attributes.count == 2)
            #expect(folder.tensors.contains("m"))
        }
    }

    @Test func `a missing, extra, linked, damaged or misnamed file is refused naming it`() throws {
        let good = manifest(["model.safetensors": model])
        func expectRefusal(_ file: String, _ prepare: (String) throws -> Void) throws {
            try inFolder { path in
                try write(good, path + "/manifest.json")
                try write(model, path + "/model.safetensors")
                try prepare(path)
                do {
                    _ = try BundleFolder(path: path)
                    Issue.record("\(file) was taken")
                } catch { #expect((error as? BundleError)?.file == file) }
            }
        }
        try expectRefusal("model.safetensors") {
            try FileManager.default.removeItem(atPath: $0 + "/model.safetensors")
        }
        try expectRefusal("extra.txt") { try write([1], $0 + "/extra.txt") }
        try expectRefusal("model.safetensors") { path in
            try FileManager.default.moveItem(atPath: path + "/model.safetensors", toPath: path + "/.m")
            try FileManager.default.createSymbolicLink(
                atPath: path + "/model.safetensors", withDestinationPath: path + "/.m")
        }
        try expectRefusal("model.safetensors") { try write(model + [0], $0 + "/model.safetensors") }
        try expectRefusal("model.safetensors") { path in
            var bytes = model
            bytes[bytes.count - 1] ^= 1
            try write(bytes, path + "/model.safetensors")
        }
        try expectRefusal("manifest.json") {
            try FileManager.default.removeItem(atPath: $0 + "/manifest.json")
        }
        try expectRefusal("weights.bin") {
            try write(manifest(["weights.bin": [1]]), $0 + "/manifest.json");
            try write([1], $0 + "/weights.bin")
            try FileManager.default.removeItem(atPath: $0 + "/model.safetensors")
        }
        try expectRefusal("sub") {
            try FileManager.default.createDirectory(atPath: $0 + "/sub", withIntermediateDirectories: false)
        }
    }

    @Test(arguments: [
        ("\"format_version\":1", "\"format_version\":2"), ("\"kind\":\"full\"", "\"kind\":\"partial\""),
        ("\"m-1\"", "\"m/1\""), ("\"m-1\"", "\"..\""),
        ("\"info\"", "\"inform\""), ("\"count\":2", "\"count\":0"), ("\"count\":2", "\"count\":\"2\""),
        ("\"title\",\"type\":\"string\"", "\"title\",\"type\":\"text\""),
        ("\"name\":\"year\"", "\"name\":\"title\""), ("\"boundaries\":[1,2.5]", "\"boundaries\":[2.5,1]"),
        ("\"vocabulary\":[\"a\",\"b\"]", "\"vocabulary\":[\"a\",\"a\"]"),
        ("\"encode\":\"bins\"", "\"encode\":\"binned\""), ("\"from\":\"user\"", "\"from\":\"stage\""),
        ("\"last\":5", "\"last\":0"), ("\"stage\":\"tower.score\"", "\"stage\":\"tower\""),
        ("\"std\":2", "\"std\":0"), ("\"inner_product\"", "\"dot\""),
        ("\"kind\":\"flat\"", "\"kind\":\"ivfpq\""), ("\"inputs\":[\"age\"", "\"inputs\":[\"agee\""),
        ("\"max_events\":8", "\"max_events\":9"), ("\"actions\":[\"unknown\"", "\"actions\":[\"watched\""),
        ("\"cross_layers\":1", "\"cross_layers\":1.5"),
        ("\"y\":[0.1,0.9]", "\"y\":[0.9,0.1]"), ("\"y\":[0.1,0.9]", "\"y\":[0.1]"),
        ("\"weights\":{\"watch\":1}", "\"weights\":{\"like\":1}"),
        ("\"tower\":{", "\"towers\":{"), ("\"sequence\":{", "\"x\":{"),
        ("\"name\":\"score\"", "\"name\":\"age\""), ("model.safetensors", "../model.safetensors"),
        ("\"dimension\":3}", "\"dimension\":3,\"dim\":3}"), ("\"popular\":5", "\"popular\":-5"),
        ("\"form\":\"linear\"", "\"form\":\"cubic\""),
    ])
    func `a manifest with one wrong field is refused with its place`(good: String, bad: String) throws {
        let text = manifest(["model.safetensors": model]) { text in
            #expect(text.contains(good))
            text = text.replacingOccurrences(of: good, with: bad, range: text.range(of: good))
        }
        do {
            _ = try ManifestDecoder.decode(text)
            Issue.record("taken: \(bad)")
        } catch {
            #expect(error.file == "manifest.json" && error.tensor != nil)
        }
    }

    @Test func `no truncation and no random damage of a manifest crashes`() throws {
        let text = manifest(["model.safetensors": model])
        #expect(throws: Never.self) { try ManifestDecoder.decode(text) }
        for end in 0..<text.count {
            #expect(throws: BundleError.self) { try ManifestDecoder.decode(Array(text[..<end])) }
        }
        var random = SeededRandom(11)
        for _ in 0..<3000 {
            var bytes = text
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
                    in: 32...126, using: &random)
            }
            _ = try? ManifestDecoder.decode(bytes)
        }
    }
}
