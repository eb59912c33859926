import Artifacts
import Foundation
import JSON
import TestSupport
import Testing

@testable import RecServer

/// What a bundle on disk is damaged in, and what its refusal must say.
struct Refused: Sendable {
    /// Names the damage.
    let title: String
    /// The file to blame.
    let file: String
    /// The tensor, line or field, nil when the file alone is to blame.
    var tensor: String?
    /// Part of what was expected.
    let expected: String
    let damage: @Sendable (Scene) throws -> Void

    init(
        _ title: String, _ file: String, _ tensor: String? = nil, expecting expected: String,
        _ damage: @escaping @Sendable (Scene) throws -> Void
    ) {
        (self.title, self.file, self.tensor, self.expected, self.damage) = (
            title, file, tensor, expected, damage
        )
    }
}

/// A full bundle, or a delta with its base, each in a folder.
final class Scene {
    let base: TemporaryFolder
    let folder: TemporaryFolder
    let isDelta: Bool

    /// The delta of this suite: every kind of edit over the small bundle, 3 items more.
    static func delta() -> SmallDelta {
        let added = 3
        var delta = SmallDelta(of: SmallBundle())
        delta.manifest = delta.manifest.replacing(#""items":{"count":40"#, with: #""items":{"count":43"#)
        let base = delta.base.tensors
        for (name, tensor) in base where name.hasPrefix("item") || name == "sequence.item_embedding.weight" {
            switch tensor {
            case .floats(let values, let shape):
                let row = values.count / shape[0]
                delta.tensors["append." + name] = .floats(
                    Array(values.prefix(added * row)), shape: [added] + shape.dropFirst())
            case .doubles(let values): delta.tensors["append." + name] = .doubles(Array(values.prefix(added)))
            case .bytes(let values) where values.count == 40:
                delta.tensors["append." + name] = .bytes(Array(values.prefix(added)))
            default: break
            }
        }
        delta.tensors["append.item_ids.bytes"] = .bytes(Array("j0j1j2".utf8))
        let end = UInt64(SmallBundle().idBytes)
        delta.tensors["append.item_ids.offsets"] = .unsigned64([end + 2, end + 4, end + 6])
        for name in ["title", "genres"] {
            delta.tensors["append.item.attr.\(name).offsets"] = .unsigned64([41, 42, 43])
            delta.tensors["append.item.attr.\(name).values"] = .unsigned32([0, 1, 2])
        }
        delta.tensors["patch.ranker.deep.0.weight.rows"] = .unsigned32([1, 4])
        delta.tensors["patch.ranker.deep.0.weight.values"] = .floats(
            (0..<42).map { Float($0) / 50 }, shape: [2, 21])
        delta.tensors["patch.item.vector.rows"] = .unsigned32([0, 39])
        delta.tensors["patch.item.vector.values"] = .floats((0..<16).map { Float($0) / 20 }, shape: [2, 8])
        delta.tensors["tower.user.0.bias"] = .floats((0..<8).map { Float($0) / 10 }, shape: [8])
        delta.removed = ["history.timestamps"]
        return delta
    }

    /// The bundle that the delta makes, in one folder.
    static func result() throws -> SmallBundle {
        let delta = delta()
        var bundle = delta.base
        bundle.manifest = delta.manifest
        for name in delta.removed { bundle.tensors[name] = nil }
        for (name, tensor) in delta.tensors {
            if name.hasPrefix("append.") { continue }
            guard name.hasPrefix("patch."), name.hasSuffix(".values") else {
                if !name.hasPrefix("patch.") { bundle.tensors[name] = tensor }
                continue
            }
            let target = String(name.dropFirst(6).dropLast(7))
            guard case .floats(var values, let shape)? = bundle.tensors[target],
                case .floats(let new, _) = tensor,
                case .unsigned32(let rows)? = delta.tensors["patch.\(target).rows"]
            else { continue }
            let width = values.count / shape[0]
            for (index, row) in rows.enumerated() {
                for column in 0..<width { values[Int(row) * width + column] = new[index * width + column] }
            }
            bundle.tensors[target] = .floats(values, shape: shape)
        }
        for (name, tensor) in delta.tensors where name.hasPrefix("append.") {
            let target = String(name.dropFirst(7))
            switch (bundle.tensors[target], tensor) {
            case (.floats(let old, let shape), .floats(let new, let more)):
                bundle.tensors[target] = .floats(old + new, shape: [shape[0] + more[0]] + shape.dropFirst())
            case (.doubles(let old), .doubles(let new)): bundle.tensors[target] = .doubles(old + new)
            case (.unsigned32(let old), .unsigned32(let new)): bundle.tensors[target] = .unsigned32(old + new)
            case (.unsigned64(let old), .unsigned64(let new)): bundle.tensors[target] = .unsigned64(old + new)
            case (.bytes(let old), .bytes(let new)): bundle.tensors[target] = .bytes(old + new)
            default: Issue.record("\(name) has another type than \(target)")
            }
        }
        return bundle
    }

    init(isDelta: Bool) throws {
        base = try TemporaryFolder()
        folder = isDelta ? try TemporaryFolder() : base
        self.isDelta = isDelta
        try SmallBundle().write(to: base)
        if isDelta { try Self.delta().write(to: folder) }
    }

    /// The tensor file of the bundle under test.
    var file: String { isDelta ? SmallDelta.file : SmallBundle.file }

    /// The error that refuses it; nil when it loads.
    func refusal() throws -> BundleError? {
        var loader = try SmallBundle.loader()
        loader.bases = [base.path]
        do {
            _ = try loader.load(folder.path)
            return nil
        } catch let error as BundleError {
            return error
        }
    }

    func edit(_ name: String, in other: TemporaryFolder? = nil, _ change: (inout [UInt8]) -> Void) throws {
        let place = other ?? folder
        var bytes = try place.read(name)
        change(&bytes)
        try place.write(name, bytes)
    }

    func replace(_ old: String, _ new: String) throws {
        try edit("manifest.json") { bytes in
            let text = String(decoding: bytes, as: UTF8.self)
            #expect(text.contains(old), "\(old)")
            bytes = Array(text.replacing(old, with: new, maxReplacements: 1).utf8)
        }
    }

    /// Writes the bundle again with another tensor, its digests right.
    func put(_ name: String, _ tensor: SmallTensor?) throws {
        if isDelta {
            var delta = Self.delta()
            delta.tensors[name] = tensor
            try delta.write(to: folder)
        } else {
            var bundle = SmallBundle()
            bundle.tensors[name] = tensor
            try bundle.write(to: folder)
        }
    }

    /// Writes the tensor file with another header, its digest right.
    func putHeader(_ change: (String) -> String) throws {
        let whole = try folder.read(file)
        let length = whole.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        let header = String(decoding: whole[8..<8 + length], as: UTF8.self)
        let trimmed = header.trimmingCharacters(in: .whitespaces)
        var text = Array(change(trimmed).utf8)
        #expect(text != Array(trimmed.utf8))
        while text.count % 8 != 0 { text.append(0x20) }
        let size = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
        try putFile(size + text + whole[(8 + length)...])
    }

    /// Writes the tensor file with these bytes, its digest right.
    func putFile(_ bytes: [UInt8]) throws {
        try folder.write(file, bytes)
        let files = [file: bytes]
        try folder.write(
            "manifest.json",
            isDelta ? Self.delta().manifestBytes(files) : SmallBundle().manifestBytes(files))
    }
}

extension SmallBundle {
    /// Bytes of all item ids.
    var idBytes: Int {
        if case .bytes(let bytes)? = tensors["item_ids.bytes"] { bytes.count } else { 0 }
    }
}

/// Every damage is refused on the loading path with the file, the tensor and the expectation in the text.
@Suite struct RefusedBundleTests {
    /// All damages of the tables, with whether the bundle is a delta.
    static var all: [(isDelta: Bool, damage: Refused)] {
        let delta =
            deltaTensors + deltaManifests + baseDamages + files(true) + headers(true) + manifests(true)
        let full = fullTensors + files(false) + headers(false) + manifests(false)
        return full.map { (false, $0) } + delta.map { (true, $0) }
    }

    @Test func `there are four hundred damages, each another`() {
        let all = Self.all
        #expect(Set(all.map { "\($0.isDelta) \($0.damage.title)" }).count == all.count)
        // The kept index is made again instead: `IndexDamageTests`.
        #expect(all.count >= 400)
    }

    @Test func `undamaged, the delta answers as the bundle it makes, and both load`() throws {
        #expect(try Scene(isDelta: false).refusal() == nil)
        let scene = try Scene(isDelta: true)
        var loader = try SmallBundle.loader()
        loader.bases = [scene.base.path]
        let delta = try loader.load(scene.folder.path)
        let whole = try Scene.result().snapshot()
        #expect(delta.manifest.items.count == 43 && delta.digest != whole.digest)
        let (a, b) = (try RecommendPipeline(delta), try RecommendPipeline(whole))
        for body in [
            #"{"user_id":"u7","now":1700000000,"n":43,"explain":true}"#, "{}",
            #"{"query_items":["j1"],"n":43}"#,
            #"{"candidates":[{"item_id":"j2"},{"item_id":"i39"}],"user_id":"u3","now":1700000000}"#,
        ] {
            let (ours, theirs) = (try a.answer(body), try b.answer(body))
            #expect(ours.items.map(\.itemID) == theirs.items.map(\.itemID) && !ours.items.isEmpty)
            #expect(ours.items.map(\.score) == theirs.items.map(\.score))
        }
    }

    @Test(arguments: [false, true])
    func `each damage is refused naming file, tensor and expectation`(isDelta: Bool) throws {
        for (_, damage) in Self.all.filter({ $0.isDelta == isDelta }) {
            let scene = try Scene(isDelta: isDelta)
            try damage.damage(scene)
            guard let error = try scene.refusal() else {
                Issue.record("\(damage.title) loads")
                continue
            }
            let text = error.description
            #expect(text.contains(damage.file), "\(damage.title): \(text)")
            if let tensor = damage.tensor {
                #expect(text.contains(": \(tensor)"), "\(damage.title): \(text)")
            }
            #expect(error.expected.contains(damage.expected), "\(damage.title): \(text)")
            #expect(!error.found.isEmpty && !text.contains(scene.folder.path + "/manifest"), "\(text)")
        }
    }
}
