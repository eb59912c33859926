import Artifacts
import TestSupport
import Testing

@testable import RecServer

/// One way to break the small bundle.
struct Damage: CustomTestStringConvertible, Sendable {
    let name: String
    /// Part of the blamed tensor's or field's name, where it is known.
    var blames: String?
    let apply: @Sendable (inout SmallBundle) -> Void

    var testDescription: String { name }
}

@Suite struct DamagedBundleTests {
    /// The error that refuses the bundle; nil when it loads.
    func refusal(_ bundle: SmallBundle) throws -> BundleError? {
        let folder = try TemporaryFolder()
        try bundle.write(to: folder)
        return try refusal(folder)
    }

    func refusal(_ folder: TemporaryFolder) throws -> BundleError? {
        do {
            _ = try SmallBundle.loader().load(folder.path)
            return nil
        } catch let error as BundleError {
            return error
        }
    }

    @Test func `the undamaged bundle loads`() throws {
        #expect(try refusal(SmallBundle()) == nil)
        #expect(try refusal(SmallBundle(towerLayers: 0)) == nil)
    }

    // MARK: - Tensors

    /// Tensors that a bundle may go without.
    static let optional: Set<String> = ["item.attr.year.present", "history.actions", "history.timestamps"]

    /// Whether one more element is still a bundle: a dictionary with an empty word, a position never reached.
    static func isExtensible(_ name: String) -> Bool {
        name.hasSuffix("dictionary.offsets") || name == "sequence.position_embedding.weight"
    }

    static let tensorDamages: [Damage] = SmallBundle().tensors.keys.sorted().flatMap { name -> [Damage] in
        var damages = [
            Damage(name: "\(name) with one less") { $0.tensors[name] = $0.tensors[name]?.shortened() },
            Damage(name: "\(name) of another type", blames: name) {
                $0.tensors[name] = $0.tensors[name]?.retyped()
            },
            Damage(name: "\(name) empty") { $0.tensors[name] = .unsigned64([]) },
            Damage(name: "\(name) under another name") {
                $0.tensors["x." + name] = $0.tensors[name]
            },
        ]
        if !isExtensible(name) {
            damages.append(
                Damage(name: "\(name) with one more") {
                    $0.tensors[name] = $0.tensors[name]?.lengthened()
                })
        }
        if !optional.contains(name) {
            damages.append(Damage(name: "\(name) missing") { $0.tensors[name] = nil })
        }
        for (kind, value) in [("NaN", Double.nan), ("infinity", -.infinity)]
        where SmallBundle().tensors[name]?.isFloating == true {
            damages.append(
                Damage(name: "\(name) with \(kind)", blames: name) {
                    $0.tensors[name] = $0.tensors[name]?.ending(in: value)
                })
        }
        if case .floats(_, let shape)? = SmallBundle().tensors[name] {
            damages.append(
                Damage(name: "\(name) of rank 3", blames: name) {
                    $0.tensors[name] = $0.tensors[name]?.reshaped(shape + [1, 1])
                })
            if shape.count == 2, shape[0] != shape[1] {
                damages.append(
                    Damage(name: "\(name) transposed", blames: name) {
                        $0.tensors[name] = $0.tensors[name]?.reshaped(shape.reversed())
                    })
            }
        }
        return damages
    }

    @Test func `every damaged tensor is refused by name`() throws {
        #expect(Self.tensorDamages.count >= 300)
        for damage in Self.tensorDamages {
            var bundle = SmallBundle()
            damage.apply(&bundle)
            let error = try refusal(bundle)
            #expect(error?.file.isEmpty == false, "\(damage.name)")
            if let blames = damage.blames {
                #expect(
                    error?.tensor?.hasPrefix(blames) == true, "\(damage.name): \(error?.description ?? "")")
            }
        }
    }

    static let valueDamages: [Damage] = [
        Damage(name: "an event of no item", blames: "history.items") {
            $0.tensors["history.items"] = .unsigned32([40] + [UInt32](repeating: 0, count: 27))
        },
        Damage(name: "an event of no action", blames: "history.actions") {
            $0.tensors["history.actions"] = .bytes([3] + [UInt8](repeating: 0, count: 27))
        },
        Damage(name: "falling offsets", blames: "history.offsets") {
            $0.tensors["history.offsets"] = .unsigned64([0, 1, 0, 3, 6, 10, 15, 21, 28])
        },
        Damage(name: "offsets not from 0", blames: "history.offsets") {
            $0.tensors["history.offsets"] = .unsigned64([1, 1, 1, 3, 6, 10, 15, 21, 28])
        },
        Damage(name: "offsets beyond the end", blames: "history.offsets") {
            $0.tensors["history.offsets"] = .unsigned64([0, 0, 1, 3, 6, 10, 15, 21, .max])
        },
        Damage(name: "a user twice", blames: "user_ids") {
            $0.tensors["user_ids.bytes"] = .bytes(Array("u0u1u2u3u4u5u6u6".utf8))
        },
        Damage(name: "a user id that is no UTF-8", blames: "user_ids") {
            $0.tensors["user_ids.bytes"] = .bytes([0xFF] + Array("0u1u2u3u4u5u6u7".utf8))
        },
        Damage(name: "an item twice", blames: "item_ids") {
            let ids = (0..<40).map { $0 == 1 ? "i0" : "i\($0)" }
            $0.tensors["item_ids.bytes"] = .bytes(ids.flatMap { Array($0.utf8) })
        },
        Damage(name: "a genre beyond the dictionary", blames: "item.attr.genres") {
            $0.tensors["item.attr.genres.values"] = .unsigned32([UInt32](repeating: 3, count: 40))
        },
        Damage(name: "a boolean that is 2", blames: "item.attr.adult") {
            $0.tensors["item.attr.adult.values"] = .bytes([UInt8](repeating: 2, count: 40))
        },
        Damage(name: "a presence that is 2", blames: "item.attr.year") {
            $0.tensors["item.attr.year.present"] = .bytes([UInt8](repeating: 2, count: 40))
        },
        Damage(name: "two titles for an item", blames: "item.attr.title") {
            let offsets = (0...40).map { $0 == 1 ? 2 : UInt64($0) }
            $0.tensors["item.attr.title.offsets"] = .unsigned64(offsets)
        },
        Damage(name: "a tensor nobody reads", blames: "extra") { $0.tensors["extra"] = .bytes([1]) },
    ]

    @Test(arguments: valueDamages)
    func `a value out of place is refused by name`(damage: Damage) throws {
        var bundle = SmallBundle()
        damage.apply(&bundle)
        let error = try refusal(bundle)
        #expect(error?.tensor?.hasPrefix(damage.blames ?? "") == true, "\(error?.description ?? "loads")")
    }

    // MARK: - Files

    @Test func `a file that is not what the manifest promises is refused by name`() throws {
        let bundle = SmallBundle()
        let whole = bundle.tensorFile()
        let folder = try TemporaryFolder()
        try bundle.write(to: folder)
        var random = SeededRandom(9)
        for _ in 0..<40 {
            var bytes = whole
            let at = Int.random(in: 0..<bytes.count, using: &random)
            bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            try folder.write(SmallBundle.file, bytes)
            #expect(try refusal(folder)?.file == SmallBundle.file)
        }
        for length in [0, 7, 8, 100, whole.count - 1] {
            try folder.write(SmallBundle.file, Array(whole.prefix(length)))
            #expect(try refusal(folder)?.file == SmallBundle.file)
        }
        try folder.write(SmallBundle.file, whole + [0])
        #expect(try refusal(folder)?.file == SmallBundle.file)
        try folder.remove(SmallBundle.file)
        #expect(try refusal(folder)?.file == SmallBundle.file)
        try folder.write(SmallBundle.file, whole)
        try folder.write("extra.bin", [1])
        #expect(try refusal(folder)?.file == "extra.bin")
        try folder.remove("extra.bin")
        try folder.write(".hidden", [1])
        #expect(try refusal(folder) == nil)
        try folder.remove("manifest.json")
        #expect(try refusal(folder)?.file == "manifest.json")
    }

    @Test func `a tensor file cut or flipped and digested anew loads or is refused, and never crashes`()
        throws
    {
        let bundle = SmallBundle()
        let whole = bundle.tensorFile()
        let headerEnd = 8 + whole.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        let folder = try TemporaryFolder()
        var random = SeededRandom(10)
        for round in 0..<120 {
            var bytes = whole
            if round % 3 == 0 {
                bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
            } else {
                let range = round % 3 == 1 ? 0..<headerEnd : headerEnd..<bytes.count
                bytes[Int.random(in: range, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            try folder.write(SmallBundle.file, bytes)
            try folder.write("manifest.json", bundle.manifestBytes([SmallBundle.file: bytes]))
            let error = try refusal(folder)
            if round % 3 == 0 { #expect(error?.file == SmallBundle.file) }
            if let error { #expect(!error.file.isEmpty) }
        }
    }

    @Test func `a manifest cut or flipped loads or is refused, and never crashes`() throws {
        let bundle = SmallBundle()
        let folder = try TemporaryFolder()
        try bundle.write(to: folder)
        let whole = bundle.manifestBytes()
        var random = SeededRandom(12)
        for round in 0..<150 {
            var bytes = whole
            if round % 3 == 0 {
                bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
            } else {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                bytes[at] = round % 3 == 1 ? UInt8.random(in: 0x30...0x39, using: &random) : 0x22
            }
            try folder.write("manifest.json", bytes)
            let error = try refusal(folder)
            if round % 3 == 0 { #expect(error?.file == "manifest.json") }
            if let error { #expect(!error.file.isEmpty) }
        }
    }

    @Test(arguments: [
        (#""format_version":1"#, #""format_version":2"#), (#""kind":"full""#, #""kind":"delta""#),
        (#""model_version":"small-1""#, #""model_version":"a/b""#), (#""info":{"x":1}"#, #""infos":{}"#),
        (#""items":{"count":40"#, #""items":{"count":41"#), (#""items":{"count":40"#, #""items":{"count":0"#),
        (#""users":{"count":8"#, #""users":{"count":7"#), (#""histories":true"#, #""histories":false"#),
        (#""name":"title","type":"string""#, #""name":"title","type":"number""#),
        (#""name":"genres","type":"strings""#, #""name":"Genres","type":"strings""#),
        (#""name":"age","type":"number""#, #""name":"hobbies","type":"number""#),
        (#""boundaries":[20,40]"#, #""boundaries":[40,20]"#),
        (#""boundaries":[20,40]"#, #""boundaries":[20]"#),
        (#"["tv","phone"]"#, #"["tv","tv"]"#), (#"["tv","phone"]"#, #"["tv"]"#),
        (#""table":"item.vector""#, #""table":"item.nothing""#), (#""last":4"#, #""last":0"#),
        (#""std":10},"#, #""std":0},"#), (#""stage":"tower.score""#, #""stage":"tower.depth""#),
        (#""name":"pop","from":"stage""#, #""name":"pop","from":"item""#),
        (#""name":"price""#, #""name":"year""#), (#"["device","genres""#, #"["device","device""#),
        (#"["device","genres""#, #"["device","unheard""#), (#"["device","genres""#, #"["genres""#),
        (#""hobbies","recent"]"#, #""hobbies","genres"]"#), (#""hobbies","recent"]"#, #""hobbies"]"#),
        (#""pooling":"mean"},"#, #""pooling":"max"},"#),
        (#""dimension":8,"candidates":30"#, #""dimension":9,"candidates":30"#),
        (#""candidates":30"#, #""candidates":0"#), (#""kind":"flat""#, #""kind":"hnsw""#),
        (#""kind":"flat""#, #""kind":"ivfpq","lists":4,"subquantizers":3,"probes":1"#),
        (#""metric":"inner_product""#, #""metric":"dot""#), (#""popular":10"#, #""popular":-1"#),
        (#""layers":1,"activation""#, #""layers":2,"activation""#),
        (#""layers":1,"activation""#, #""layers":0,"activation""#),
        (#""activation":"relu","normalize""#, #""activation":"step","normalize""#),
        (#""family":"hstu""#, #""family":"sasrec""#), (#""heads":1"#, #""heads":2"#),
        (#""max_events":16"#, #""max_events":17"#), (#""window_block":4"#, #""window_block":17"#),
        (#"["unknown","view","like"]"#, #"["view","unknown","like"]"#),
        (#"["unknown","view","like"]"#, #"["unknown","view"]"#), (#""dot":{"#, #""dots":{"#),
        (#""temperature":0.05"#, #""temperature":0"#), (#""target":true"#, #""target":false"#),
        (#""qk_dimension":4"#, #""qk_dimension":5"#), (#""value_dimension":4"#, #""value_dimension":3"#),
        (#""normalizer":20"#, #""normalizer":16"#), (#""normalizer":20"#, #""normalizer":21"#),
        (#""position_bias":true"#, #""position_bias":false"#), (#""time_bias":true"#, #""time_bias":1"#),
        (#""family":"dcn_v2""#, #""family":"dcn""#), (#""structure":"stacked""#, #""structure":"parallel""#),
        (#""cross_layers":1"#, #""cross_layers":2"#), (#""cross_rank":0"#, #""cross_rank":2"#),
        (#""deep":[6]"#, #""deep":[7]"#), (#""deep":[6]"#, #""deep":[]"#), (#"{"name":"view"},"#, ""),
        (#"{"name":"view"}"#, #"{"name":"like"}"#), (#""kind":"platt","a":1.1"#, #""kind":"platt""#),
        (#""form":"linear""#, #""form":"cubic""#), (#"{"view":1,"like":0.5}"#, #"{"buy":1}"#),
        (#""golden":1e-4"#, #""golden":1"#), (#""value":{"#, #""value_":{"#), (#""tower":{"#, #""tower_":{"#),
    ])
    func `a manifest that does not fit itself or the tensors is refused`(old: String, new: String) throws {
        var bundle = SmallBundle()
        #expect(bundle.manifest.contains(old))
        bundle.manifest = bundle.manifest.replacing(old, with: new, maxReplacements: 1)
        #expect(try refusal(bundle)?.file.isEmpty == false)
    }

    @Test(
        arguments: [
            ("golden.jsonl", "{", nil), ("golden.jsonl", "{}", nil),
            (
                "golden.jsonl",
                #"{"request":{"candidates":[{"item_id":"i1"}],"now":1},"stages":{"value":[99]}}"#, nil
            ),
            (
                "golden.jsonl",
                #"{"request":{"candidates":[{"item_id":"i1"}],"now":1},"stages":{"value":[]}}"#,
                nil
            ),
            (
                "golden.jsonl",
                #"{"request":{"candidates":[],"now":1,"weights":{"x":1}},"stages":{}}"#, nil
            ),
            ("warmup.jsonl", "[]", nil), ("warmup.jsonl", "{}\n{\"n\":0}", "line 2"),
            ("warmup.jsonl", #"{"weights":{"buy":1}}"#, "line 1"),
        ] as [(String, String, String?)])
    func `goldens and warm-up requests that fail refuse the bundle`(
        name: String, text: String, line: String?
    ) throws {
        var bundle = SmallBundle()
        bundle.others[name] = Array(text.utf8)
        let error = try refusal(bundle)
        #expect(error?.file == name)
        if let line { #expect(error?.tensor == line) }
    }

    @Test func `goldens of the bundle's own numbers pass, unless one is off`() throws {
        let snapshot = try SmallBundle.loaded()
        let request =
            #"{"candidates":[{"item_id":"i1"},{"item_id":"i7"}],"now":1700000000,"history":[{"item_id":"i2","action":"like","timestamp":1699999000}],"context":{"device":"tv"},"user":{"age":30}}"#
        let stages = try RecommendPipeline(snapshot).stages(
            of: try RecommendRequest(body: Array(request.utf8)))
        #expect(Set(stages.keys) == Set(Golden.stageNames))
        for off in [nil] + Golden.stageNames {
            let texts = stages.sorted { $0.key < $1.key }.map { name, values in
                let values = values.enumerated().map { $0 == 0 && name == off ? $1 + 1 : $1 }
                return "\"\(name)\":[\(values.map { "\($0)" }.joined(separator: ","))]"
            }
            var bundle = SmallBundle()
            bundle.others["golden.jsonl"] = Array(
                "{\"request\":\(request),\"stages\":{\(texts.joined(separator: ","))}}\n".utf8)
            let error = try refusal(bundle)
            #expect((error == nil) == (off == nil))
            if let off { #expect(error?.expected.contains(off) == true && error?.tensor == "line 1") }
        }
    }
}

extension SmallTensor {
    var isFloating: Bool {
        switch self {
        case .floats, .doubles: true
        default: false
        }
    }

    func lengthened() -> SmallTensor {
        switch self {
        case .floats(let values, let shape):
            // One more row of the same values.
            let row = values.count / shape[0]
            return .floats(values + values.prefix(row), shape: [shape[0] + 1] + shape.dropFirst())
        case .doubles(let values): return .doubles(values + [1])
        case .unsigned32(let values): return .unsigned32(values + [0])
        case .unsigned64(let values): return .unsigned64(values + [values.last ?? 0])
        case .bytes(let values): return .bytes(values + [0])
        }
    }

    func shortened() -> SmallTensor {
        switch self {
        case .floats(let values, let shape):
            let row = values.count / shape[0]
            return .floats(values.dropLast(row), shape: [shape[0] - 1] + shape.dropFirst())
        case .doubles(let values): return .doubles(values.dropLast())
        case .unsigned32(let values): return .unsigned32(values.dropLast())
        case .unsigned64(let values): return .unsigned64(values.dropLast())
        case .bytes(let values): return .bytes(values.dropLast())
        }
    }

    func retyped() -> SmallTensor {
        switch self {
        case .floats(_, let shape): .unsigned64([UInt64](repeating: 0, count: shape[0]))
        case .doubles(let values): .unsigned64(values.map { _ in 0 })
        case .unsigned32(let values): .doubles(values.map(Double.init))
        case .unsigned64(let values): .doubles(values.map(Double.init))
        case .bytes(let values): .doubles(values.map(Double.init))
        }
    }

    func ending(in value: Double) -> SmallTensor {
        switch self {
        case .floats(let values, let shape): .floats(values.dropLast() + [Float(value)], shape: shape)
        case .doubles(let values): .doubles(values.dropLast() + [value])
        default: self
        }
    }

    func reshaped(_ shape: [Int]) -> SmallTensor {
        if case .floats(let values, _) = self { .floats(values, shape: shape) } else { self }
    }
}
