import Artifacts
import Foundation

@testable import RecServer

/// The tables of `RefusedBundleTests`.
extension RefusedBundleTests {
    // MARK: - Files

    /// What happens to a file whose manifest stays.
    static func files(_ isDelta: Bool) -> [Refused] {
        let file = isDelta ? SmallDelta.file : SmallBundle.file
        var table: [Refused] = []
        for (title, length) in [("empty", 0), ("of 7 bytes", 7), ("of 8 bytes", 8), ("of 100 bytes", 100)] {
            table.append(
                Refused("file \(title)", file, expecting: "bytes") {
                    try $0.edit(file) { $0 = Array($0.prefix(length)) }
                })
        }
        for part in [0, 1, 2, 3, 4] {
            table.append(
                Refused("bit flipped at \(part) quarters", file, expecting: "sha256") {
                    try $0.edit(file) { $0[min($0.count - 1, $0.count * part / 4)] ^= UInt8(1 << part) }
                })
        }
        table += [
            Refused("one byte short", file, expecting: "bytes") { try $0.edit(file) { $0.removeLast() } },
            Refused("one byte long", file, expecting: "at most") { try $0.edit(file) { $0.append(0) } },
            Refused("two bytes exchanged", file, expecting: "sha256") {
                try $0.edit(file) { bytes in
                    let other = (bytes.indices.dropFirst(200).first { bytes[$0] != bytes[199] }) ?? 0
                    bytes.swapAt(199, other)
                }
            },
            Refused("file missing", file, expecting: "a readable regular file") {
                try $0.folder.remove(file)
            },
            Refused("file a folder", file, expecting: "regular file") {
                try $0.folder.remove(file)
                try FileManager.default.createDirectory(
                    atPath: $0.folder.path + "/" + file, withIntermediateDirectories: false)
            },
            Refused("file a link", file, expecting: "regular file") {
                let path = $0.folder.path + "/" + file
                try FileManager.default.moveItem(atPath: path, toPath: $0.folder.path + "/.kept")
                try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: ".kept")
            },
            Refused("file extra", "notes.txt", expecting: "a file the manifest names") {
                try $0.folder.write("notes.txt", [1])
            },
            Refused("tensor file extra", "x.safetensors", expecting: "a file the manifest names") {
                try $0.folder.write("x.safetensors", [])
            },
            Refused("folder extra", "sub", expecting: "a file the manifest names") {
                try FileManager.default.createDirectory(
                    atPath: $0.folder.path + "/sub", withIntermediateDirectories: false)
            },
            Refused("manifest missing", "manifest.json", expecting: "a readable regular file") {
                try $0.folder.remove("manifest.json")
            },
            Refused("golden not JSON", "golden.jsonl", "line 1", expecting: "a request with stages") {
                try $0.putOther("golden.jsonl", "{")
            },
            Refused("golden of no stage", "golden.jsonl", "line 1", expecting: "a request with stages") {
                try $0.putOther("golden.jsonl", #"{"request":{"candidates":[],"now":1},"stages":{"x":[1]}}"#)
            },
            Refused("golden off", "golden.jsonl", "line 1", expecting: "value within") {
                try $0.putOther(
                    "golden.jsonl",
                    #"{"request":{"candidates":[{"item_id":"i1"}],"now":1},"stages":{"value":[99]}}"#)
            },
            Refused("warm-up not a body", "warmup.jsonl", "line 2", expecting: "a /recommend body") {
                try $0.putOther("warmup.jsonl", "{}\n{\"n\":0}")
            },
        ]
        return table
    }

    // MARK: - safetensors headers

    static func headers(_ isDelta: Bool) -> [Refused] {
        let file = isDelta ? SmallDelta.file : SmallBundle.file
        let name = isDelta ? "patch.item.vector.values" : "item.vector"
        let shape = isDelta ? "[2,8]" : "[40,8]"
        let entry = #""\#(name)":{"dtype":"F32","shape":"# + shape
        func entries(_ title: String, _ expected: String, _ new: String) -> Refused {
            Refused("header \(title)", file, name, expecting: expected) {
                try $0.putHeader { $0.replacing(entry, with: #""\#(name)":{\#(new)"#) }
            }
        }
        func whole(_ title: String, _ expected: String, _ change: @escaping @Sendable ([UInt8]) -> [UInt8])
            -> Refused
        {
            Refused("header \(title)", file, expecting: expected) { scene in
                try scene.putFile(change(try scene.folder.read(file)))
            }
        }
        return [
            entries("dtype unknown", "a dtype this format knows", #""dtype":"F12","shape":\#(shape)"#),
            entries("dtype missing", "dtype, shape and data_offsets", #""shape":\#(shape)"#),
            entries("dtype a number", "dtype, shape and data_offsets", #""dtype":4,"shape":\#(shape)"#),
            entries("shape missing", "dtype, shape and data_offsets", #""dtype":"F32""#),
            entries("shape too small", "4 bytes for F32", #""dtype":"F32","shape":[1]"#),
            entries("shape negative", "dtype, shape and data_offsets", #""dtype":"F32","shape":[-1]"#),
            entries("shape of text", "dtype, shape and data_offsets", #""dtype":"F32","shape":["8"]"#),
            entries(
                "shape beyond memory", "a shape that fits memory",
                #""dtype":"F32","shape":[4294967296,4294967296,8]"#),
            entries("rank 9", "dtype, shape and data_offsets", #""dtype":"F32","shape":[1,1,1,1,1,1,1,1,1]"#),
            entries("key extra", "dtype, shape and data_offsets", #""x":1,"dtype":"F32","shape":\#(shape)"#),
            entries("null", "dtype, shape and data_offsets", #""dtype":null,"shape":\#(shape)"#),
            whole("length 0", "a JSON header") { [UInt8](repeating: 0, count: 8) + $0.dropFirst(8) },
            whole("length 2^64 - 1", "a header of at most") {
                [UInt8](repeating: 255, count: 8) + $0.dropFirst(8)
            },
            whole("length beyond the file", "a header of at most") {
                [255, 255, 255, 0, 0, 0, 0, 0] + $0.dropFirst(8)
            },
            whole("length one short", "a JSON header") { [$0[0] &- 8] + $0.dropFirst(1) },
            whole("alone", "a header of at most") { Array($0.prefix(8)) },
            whole("cut", "an 8-byte header length") { Array($0.prefix(7)) },
            whole("data one short", "inside the file") { $0.dropLast() },
            whole("data one long", "the end of the data") { $0 + [0] },
            Refused("header an array", file, expecting: "a JSON object") { try $0.putHeader { _ in "[]" } },
            Refused("header empty", file, expecting: "the end of the data") {
                try $0.putHeader { _ in "{}" }
            },
            Refused("header with a name twice", file, expecting: "a JSON header") {
                try $0.putHeader { $0.dropLast() + "," + $0.dropFirst() }
            },
            Refused("header of braces", file, expecting: "a JSON header") {
                try $0.putHeader { _ in String(repeating: "{", count: 64) }
            },
            Refused("header with trailing comma", file, expecting: "a JSON header") {
                try $0.putHeader { $0.dropLast() + ",}" }
            },
        ]
    }

    // MARK: - Manifests

    /// A manifest with one text exchanged for another.
    private static func manifest(
        _ old: String, _ new: String, _ tensor: String?, _ expected: String = "a valid manifest",
        in file: String = "manifest.json"
    ) -> Refused {
        Refused("manifest \(old) → \(new)", file, tensor, expecting: expected) {
            try $0.replace(old, new)
        }
    }

    static func manifests(_ isDelta: Bool) -> [Refused] {
        let file = isDelta ? SmallDelta.file : SmallBundle.file
        let unchanged = isDelta ? "base/" + SmallBundle.file : file
        func text(_ title: String, _ change: @escaping @Sendable ([UInt8]) -> [UInt8]) -> Refused {
            Refused("manifest \(title)", "manifest.json", expecting: "strict JSON") {
                try $0.edit("manifest.json") { $0 = change($0) }
            }
        }
        return [
            text("empty") { _ in [] }, text("half") { Array($0.prefix($0.count / 2)) },
            text("one short") { $0.dropLast() }, text("trailing") { $0 + [0x78] },
            text("with NUL") { $0 + [0] },
            text("not UTF-8") { [0xFF] + $0 },
            text("deep") { _ in Array(("{\"info\":" + String(repeating: "[", count: 99)).utf8) },
            text("of a name twice") { Array(#"{"format_version":1,"#.utf8) + $0.dropFirst() },
            Refused("manifest an array", "manifest.json", expecting: "a valid manifest") {
                try $0.folder.write("manifest.json", Array("[]".utf8))
            },
            Refused(
                "manifest without anything", "manifest.json", "/format_version", expecting: "a valid manifest"
            ) {
                try $0.folder.write("manifest.json", Array("{}".utf8))
            },
            manifest(#""format_version":1"#, #""format_version":2"#, "/format_version"),
            manifest(#""kind":"\#(isDelta ? "delta" : "full")""#, #""kind":"half""#, "/kind"),
            manifest(#""space_version":"small""#, #""space_version":"a b""#, "/space_version"),
            manifest(#""space_version":"small""#, #""space_version":7"#, "/space_version"),
            manifest(#""info":{"x":1}"#, #""inform":{}"#, "/inform"),
            manifest(#""sha256":""#, #""sha256":"0"#, "/files/\(file)/sha256"),
            manifest(#""bytes":"#, #""bytes":-"#, "/files/\(file)/bytes"),
            manifest(#""bytes":"#, #""bites":"#, "/files/\(file)"),
            manifest(file, "../\(file)", "/files/"), manifest(file, "/etc/passwd", "/files/"),
            manifest(file, ".hidden", "/files/"), manifest(file, "manifest.json", "/files/manifest.json"),
            Refused("manifest of a strange file", "x.bin", expecting: "*.safetensors") {
                try $0.folder.write("x.bin", [])
                let entry = #"{"x.bin":{"sha256":"\#(Digest.sha256([] as [UInt8]))","bytes":0},"#
                try $0.replace(#""files":{"#, #""files":"# + entry)
            },
            Refused("manifest with a digest of zeros", file, expecting: "sha256 0000") {
                let digest = Digest.sha256(try $0.folder.read(file))
                try $0.replace(digest, String(repeating: "0", count: 64))
            },
            manifest(
                #""users":{"count":8"#, #""users":{"count":9"#, "user_ids.offsets", "shape [10]",
                in: unchanged),
            manifest(
                #""items":{"count":4"#, #""items":{"count":14"#, "item_ids.offsets", "shape [14", in: file),
            manifest(#""items":{"count":4"#, #""items":{"count":-4"#, "/items/count"),
            manifest(
                #""type":"boolean","filterable":true"#, #""type":"number""#, "item.attr.adult.values", "F64",
                in: file),
            manifest(#""boundaries":[20,40]"#, #""boundaries":[20,20]"#, "/features/1/boundaries"),
            manifest(
                #""boundaries":[20,40]"#, #""boundaries":[20]"#, "feature.age.weight", "shape [3, 4]",
                in: unchanged),
            manifest(#""dimension":8,"last":4"#, #""dimension":8,"last":0"#, "/features/3/last"),
            manifest(#""metric":"inner_product""#, #""metric":"dot""#, "/retrieval/metric"),
            manifest(#""max_events":16"#, #""max_events":99"#, "/sequence"),
            manifest(
                #""normalizer":20"#, #""normalizer":21"#, "sequence.layers.0.position_bias", "shape [41]",
                in: unchanged),
            manifest(#""deep":[6]"#, #""deep":[7]"#, "ranker.deep.0.weight", "shape [7, 21]", in: file),
            manifest(
                #""cross_layers":1"#, #""cross_layers":2"#, "ranker.cross.1.bias", "this tensor", in: file),
            manifest(
                #""layers":1,"activation":"relu","normalize""#,
                #""layers":2,"activation":"relu","normalize""#, "tower.user.1.weight", "this tensor", in: file
            ),
            manifest(#""golden":1e-4"#, #""golden":-1"#, "/tolerances/golden"),
            manifest(#"{"view":1,"like":0.5}"#, #"{"buy":1}"#, "/value/weights/buy"),
        ]
    }

    static let deltaManifests: [Refused] = [
        Refused(
            "base unknown", "manifest.json", "/base_sha256",
            expecting: "a base whose manifest.json has sha256 0000"
        ) {
            let digest = Digest.sha256(SmallBundle().manifestBytes())
            try $0.replace(digest, String(repeating: "0", count: 64))
        },
        manifest(#""base_sha256":""#, #""base_sha256":"0"#, "/base_sha256"),
        manifest(#""base_sha256":""#, #""base_sha":""#, "/base_sha256"),
        Refused("base digest in capitals", "manifest.json", "/base_sha256", expecting: "a valid manifest") {
            let digest = Digest.sha256(SmallBundle().manifestBytes())
            try $0.replace(digest, "F" + digest.dropFirst())
        },
        Refused("base itself", "manifest.json", "/base_sha256", expecting: "a base whose") {
            let digest = Digest.sha256(SmallBundle().manifestBytes())
            try $0.replace(digest, Digest.sha256(try $0.folder.read("manifest.json")))
        },
        manifest(#""kind":"delta""#, #""kind":"full""#, "/base_sha256"),
        manifest(
            #""removed":["history.timestamps"]"#, #""removed":["history.timestamps","nothing"]"#, "/removed",
            "tensors of the base"),
        manifest(
            #""removed":["history.timestamps"]"#, #""removed":["history.timestamps","history.timestamps"]"#,
            "/removed/1"),
        manifest(#""removed":["history.timestamps"]"#, #""removed":[1]"#, "/removed/0"),
        manifest(#""removed":["history.timestamps"]"#, #""removed":"x""#, "/removed"),
        Refused("removed though needed", SmallDelta.file, "history.items", expecting: "this tensor") {
            try $0.replace(#""removed":["#, #""removed":["history.items","#)
        },
        Refused(
            "removed though patched", SmallDelta.file, "patch.ranker.deep.0.weight.rows",
            expecting: "a tensor of the base that stays"
        ) {
            try $0.replace(#""removed":["#, #""removed":["ranker.deep.0.weight","#)
        },
        Refused(
            "removed though appended", SmallDelta.file, "append.item.popularity",
            expecting: "a tensor of the base that stays"
        ) {
            try $0.replace(#""removed":["#, #""removed":["item.popularity","#)
        },
        Refused(
            "removed though replaced", SmallDelta.file, "tower.user.0.bias", expecting: "replaced or removed"
        ) {
            try $0.replace(#""removed":["#, #""removed":["tower.user.0.bias","#)
        },
        Refused("base a chain without end", "base/manifest.json", "/base_sha256", expecting: "a base whose") {
            scene in
            // The base becomes a delta itself, of a bundle that is nowhere.
            let old = Digest.sha256(SmallBundle().manifestBytes())
            try scene.edit("manifest.json", in: scene.base) { bytes in
                let text = String(decoding: bytes, as: UTF8.self)
                bytes = Array(
                    text.replacing(#""kind":"full""#, with: #""kind":"delta","base_sha256":"\#(old)""#).utf8)
            }
            try scene.replace(old, Digest.sha256(try scene.base.read("manifest.json")))
        },
    ]

    // MARK: - The base

    static let baseDamages: [Refused] = {
        let file = SmallBundle.file
        var table: [Refused] = [
            Refused("base's manifest changed", "manifest.json", "/base_sha256", expecting: "a base whose") {
                try $0.edit("manifest.json", in: $0.base) { $0.append(0x20) }
            },
            Refused("base's manifest missing", "manifest.json", "/base_sha256", expecting: "a base whose") {
                try $0.base.remove("manifest.json")
            },
            Refused("base's file missing", "base/" + file, expecting: "a readable regular file") {
                try $0.base.remove(file)
            },
            Refused("base's file empty", "base/" + file, expecting: "bytes") { try $0.base.write(file, []) },
            Refused("base's file longer", "base/" + file, expecting: "at most") {
                try $0.edit(file, in: $0.base) { $0.append(1) }
            },
            Refused("base's file a link", "base/" + file, expecting: "regular file") {
                let path = $0.base.path
                try FileManager.default.moveItem(atPath: path + "/" + file, toPath: path + "/.kept")
                try FileManager.default.createSymbolicLink(
                    atPath: path + "/" + file, withDestinationPath: ".kept")
            },
            Refused("base's file extra", "base/x.safetensors", expecting: "a file the manifest names") {
                try $0.base.write("x.safetensors", [])
            },
            Refused("base's manifest no bundle's", "base/manifest.json", expecting: "strict JSON") { scene in
                let old = Digest.sha256(SmallBundle().manifestBytes())
                try scene.base.write("manifest.json", [0x7B])
                try scene.replace(old, Digest.sha256([0x7B]))
            },
            Refused("base's header damaged", "base/" + file, expecting: "a JSON header") { scene in
                let old = Digest.sha256(SmallBundle().manifestBytes())
                try scene.edit(file, in: scene.base) { $0[9] = 0x78 }
                let manifest = SmallBundle().manifestBytes([file: try scene.base.read(file)])
                try scene.base.write("manifest.json", manifest)
                try scene.replace(old, Digest.sha256(manifest))
            },
        ]
        for part in 0...9 {
            table.append(
                Refused("base's bit flipped at \(part) ninths", "base/" + file, expecting: "sha256") {
                    try $0.edit(file, in: $0.base) { $0[($0.count - 1) * part / 9] ^= 16 }
                })
        }
        return table
    }()

    // MARK: - Tensors

    /// A tensor exchanged for another, or left out, its digest right.
    private static func put(
        _ title: String, _ name: String, _ tensor: SmallTensor?, file: String = SmallDelta.file,
        blaming blamed: String? = nil, _ expected: String
    ) -> Refused {
        Refused("\(name) \(title)", file, blamed ?? name, expecting: expected) { try $0.put(name, tensor) }
    }

    /// Every tensor of the delta: missing rows, too many, another type, a patch without its half.
    static let deltaTensors: [Refused] = Scene.delta().tensors.sorted { $0.key < $1.key }.flatMap {
        name, tensor -> [Refused] in
        if name.hasPrefix("append.") { return appended(name, tensor) }
        if name.hasSuffix(".values") { return patchValues(name, tensor) }
        return name.hasSuffix(".rows") ? patchRows(name) : []
    }

    private static func appended(_ name: String, _ tensor: SmallTensor) -> [Refused] {
        let target = String(name.dropFirst(7))
        var table = [
            put("of another type", name, tensor.retyped(), "as in the base"),
            Refused("\(name) under a strange name", SmallDelta.file, "append.x.", expecting: "in the base") {
                try $0.put("append.x." + target, tensor)
            },
        ]
        if tensor.isFloating {
            table.append(put("with NaN", name, tensor.ending(in: .nan), blaming: target, "finite values"))
        }
        if case .floats(let values, let shape) = tensor {
            table.append(put("of rank 3", name, .floats(values, shape: shape + [1, 1]), "as in the base"))
        }
        // Ids may have another number of bytes; a string column's values are counted by its offsets.
        guard target != "item_ids.bytes" else { return table }
        let isCounted = ["item.attr.genres.values", "item.attr.title.values"].contains(target)
        let blamed = isCounted ? target.replacing(".values", with: ".offsets") : target
        let expected = isCounted ? "a last offset of" : "shape ["
        return table + [
            put(
                "missing", name, nil,
                file: isCounted || target == "item.vector" ? SmallDelta.file : "base/" + SmallBundle.file,
                blaming: blamed, expected),
            put("with one more", name, tensor.lengthened(), blaming: blamed, expected),
            put("with one less", name, tensor.shortened(), blaming: blamed, expected),
        ]
    }

    private static func patchValues(_ name: String, _ tensor: SmallTensor) -> [Refused] {
        [
            put("missing", name, nil, "this tensor"), put("with one less", name, tensor.shortened(), "rows"),
            put("with one more", name, tensor.lengthened(), "rows"),
            put("of another type", name, tensor.retyped(), "as in the base"),
            put(
                "with infinity", name, tensor.ending(in: .infinity),
                blaming: String(name.dropFirst(6).dropLast(7)), "finite values"),
        ]
    }

    private static func patchRows(_ name: String) -> [Refused] {
        [
            put("missing", name, nil, "this tensor"),
            put("falling", name, .unsigned32([4, 1]), "rising rows from 5"),
            put("of one row twice", name, .unsigned32([1, 1]), "rising rows from 2"),
            put("beyond the base", name, .unsigned32([0, 40]), "to below"),
            put("of the largest number", name, .unsigned32([0, .max]), "to below"),
            put("of another type", name, .bytes([0, 1]), "U32 of rank 1"),
            put("of one row", name, .unsigned32([0]), blaming: name.dropLast(5) + ".values", "1 rows"),
        ]
    }

    static let fullTensors: [Refused] = SmallBundle().tensors.sorted { $0.key < $1.key }.flatMap {
        name, tensor -> [Refused] in
        let expected =
            switch tensor {
            case .floats(_, let shape): shape.count == 1 ? "F32" : "shape ["
            case .doubles: "F64"
            case .unsigned32: "U32"
            case .unsigned64: "U64"
            case .bytes: "U8"
            }
        var table = [put("of another type", name, tensor.retyped(), file: SmallBundle.file, expected)]
        if tensor.isFloating {
            table.append(put("with NaN", name, tensor.ending(in: .nan), file: SmallBundle.file, "finite"))
        }
        if case .floats(let values, let shape) = tensor {
            let tensor = SmallTensor.floats(values, shape: shape + [1, 1])
            table.append(put("of rank 3", name, tensor, file: SmallBundle.file, "shape ["))
        }
        return table
    }
}

extension Scene {
    /// Adds `golden.jsonl` or `warmup.jsonl`, its digest right.
    func putOther(_ name: String, _ text: String) throws {
        if isDelta {
            var delta = Self.delta()
            delta.others[name] = Array(text.utf8)
            try delta.write(to: folder)
        } else {
            var bundle = SmallBundle()
            bundle.others[name] = Array(text.utf8)
            try bundle.write(to: folder)
        }
    }
}
