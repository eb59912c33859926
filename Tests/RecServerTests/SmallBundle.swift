import Artifacts
import Foundation
import JSON
import Logging
import TestSupport
import Threading

@testable import RecServer

/// One tensor of a bundle under test, easy to damage.
enum SmallTensor {
    case floats([Float], shape: [Int])
    case doubles([Double])
    case unsigned32([UInt32])
    case unsigned64([UInt64])
    case bytes([UInt8])

    func add(to writer: inout SafeTensorsWriter, _ name: String) {
        switch self {
        case .floats(let values, let shape): writer.add(name, floats: values, shape: shape)
        case .doubles(let values): writer.add(name, doubles: values)
        case .unsigned32(let values): writer.add(name, unsigned32: values)
        case .unsigned64(let values): writer.add(name, unsigned64: values)
        case .bytes(let values): writer.add(name, bytes: values)
        }
    }
}

/// A whole bundle in memory: tower, history model, ranker, users with histories, every kind of attribute.
///
/// Item `i<k>` is row k; user `u<k>` has k events in steps of 100 s that end at `now` − 100.
struct SmallBundle {
    static let items = 40
    static let users = 8
    static let now = 1_700_000_000.0
    static let dimension = 8
    static let genres = ["drama", "comedy", "war"]
    static let file = "model.safetensors"

    var tensors: [String: SmallTensor] = [:]
    var manifest: String
    /// `golden.jsonl`, `warmup.jsonl` and whatever else is to lie in the folder and be named by the manifest.
    var others: [String: [UInt8]] = [:]

    static func popularity(_ row: Int) -> Float { Float((row * 7) % items) }
    static func genre(_ row: Int) -> String { genres[row % 3] }
    static func events(of user: Int) -> [(row: Int, action: UInt8, time: Double)] {
        (0..<user).map { index in
            ((user * 5 + index * 3) % items, UInt8(index % 3), now - 100 * Double(user - index))
        }
    }

    init(
        towerLayers: Int = 1, seed: UInt64 = 1, layers: Int = 1, maxEvents: Int = 16, hasTimeBias: Bool = true
    ) {
        manifest = Self.manifestText(towerLayers: towerLayers)
            .replacing(
                "\"layers\":1,\"heads\":1,\"max_events\":16",
                with:
                    "\"layers\":\(layers),\"heads\":1,\"max_events\":\(maxEvents)"
            )
            .replacing("\"normalizer\":20", with: "\"normalizer\":\(maxEvents + 4)")
            .replacing("\"time_bias\":true", with: "\"time_bias\":\(hasTimeBias)")
        var random = SeededRandom(seed)
        addItems(&random)
        addUsers()
        addFeatures(&random)
        if towerLayers > 0 {
            matrix("tower.user.0.weight", [8, 20], &random)
            matrix("tower.user.0.bias", [8], &random)
        }
        addSequence(&random, layers: layers, maxEvents: maxEvents, hasTimeBias: hasTimeBias)
        // 3 genres, 2 year, 2 price, 2 device, 1 + 1 + 1 + 8 stages, 1 popularity.
        let width = 21
        matrix("ranker.cross.0.weight", [width, width], &random)
        matrix("ranker.cross.0.bias", [width], &random)
        matrix("ranker.deep.0.weight", [6, width], &random)
        matrix("ranker.deep.0.bias", [6], &random)
        matrix("ranker.head.weight", [2, 6], &random)
        matrix("ranker.head.bias", [2], &random)
    }

    private mutating func matrix(
        _ name: String, _ shape: [Int], scale: Float = 0.5, _ random: inout SeededRandom
    ) {
        let values = (0..<shape.reduce(1, *)).map { _ in Float.random(in: -scale...scale, using: &random) }
        tensors[name] = .floats(values, shape: shape)
    }

    private mutating func strings(_ name: String, _ list: [String]) {
        tensors[name + ".bytes"] = .bytes(list.flatMap { Array($0.utf8) })
        var offsets: [UInt64] = [0]
        for text in list { offsets.append((offsets.last ?? 0) + UInt64(text.utf8.count)) }
        tensors[name + ".offsets"] = .unsigned64(offsets)
    }

    private mutating func addItems(_ random: inout SeededRandom) {
        let rows = 0..<Self.items
        strings("item_ids", rows.map { "i\($0)" })
        matrix("item.vector", [Self.items, Self.dimension], scale: 1, &random)
        tensors["item.popularity"] = .floats(rows.map(Self.popularity), shape: [Self.items])
        strings("item.attr.title.dictionary", rows.map { "Title \($0)" })
        tensors["item.attr.title.offsets"] = .unsigned64((0...Self.items).map(UInt64.init))
        tensors["item.attr.title.values"] = .unsigned32(rows.map(UInt32.init))
        strings("item.attr.genres.dictionary", Self.genres)
        tensors["item.attr.genres.offsets"] = .unsigned64((0...Self.items).map(UInt64.init))
        tensors["item.attr.genres.values"] = .unsigned32(rows.map { UInt32($0 % 3) })
        tensors["item.attr.year.values"] = .doubles(rows.map { 1980 + Double($0) })
        tensors["item.attr.year.present"] = .bytes(rows.map { $0 % 4 == 0 ? 0 : 1 })
        tensors["item.attr.adult.values"] = .bytes(rows.map { $0 % 5 == 0 ? 1 : 0 })
    }

    private mutating func addUsers() {
        let all = (0..<Self.users).map(Self.events)
        strings("user_ids", all.indices.map { "u\($0)" })
        tensors["user.attr.age.values"] = .doubles(all.indices.map { Double(15 + 5 * $0) })
        strings("user.attr.hobbies.dictionary", ["chess", "golf"])
        tensors["user.attr.hobbies.offsets"] = .unsigned64((0...UInt64(Self.users)).map { min($0, 2) })
        tensors["user.attr.hobbies.values"] = .unsigned32([0, 1])
        var offsets: [UInt64] = [0]
        for events in all { offsets.append((offsets.last ?? 0) + UInt64(events.count)) }
        tensors["history.offsets"] = .unsigned64(offsets)
        tensors["history.items"] = .unsigned32(all.joined().map { UInt32($0.row) })
        tensors["history.actions"] = .bytes(all.joined().map(\.action))
        tensors["history.timestamps"] = .doubles(all.joined().map(\.time))
    }

    private mutating func addFeatures(_ random: inout SeededRandom) {
        matrix("feature.user_row.weight", [Self.users + 1, 4], &random)
        matrix("feature.age.weight", [4, 4], &random)
        matrix("feature.hobbies.weight", [3, 4], &random)
        matrix("feature.device.weight", [3, 2], &random)
        matrix("feature.genres.weight", [4, 3], &random)
    }

    private mutating func addSequence(
        _ random: inout SeededRandom, layers: Int, maxEvents: Int, hasTimeBias: Bool
    ) {
        let d = Self.dimension
        matrix("sequence.item_embedding.weight", [Self.items, d], &random)
        matrix("sequence.action_embedding.weight", [4, d], &random)
        matrix("sequence.position_embedding.weight", [maxEvents + 1, d], &random)
        for layer in 0..<layers {
            let name = "sequence.layers.\(layer)."
            matrix(name + "uvqk.weight", [16, d], &random)
            matrix(name + "output.weight", [d, 4], &random)
            matrix(name + "output.bias", [d], &random)
            matrix(name + "position_bias", [2 * (maxEvents + 4) - 1], &random)
            if hasTimeBias { matrix(name + "time_bias", [129], &random) }
        }
        matrix("sequence.target.norm.weight", [d], &random)
        matrix("sequence.target.norm.bias", [d], &random)
        matrix("sequence.target.weight", [1, d], &random)
        matrix("sequence.target.bias", [1], &random)
    }

    // MARK: - On disk

    func tensorFile() -> [UInt8] {
        var writer = SafeTensorsWriter()
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) { tensor.add(to: &writer, name) }
        return writer.file()
    }

    /// The manifest with the entries of `files`, or of the bundle's own.
    func manifestBytes(_ files: [String: [UInt8]]? = nil) -> [UInt8] {
        let files = files ?? others.merging([Self.file: tensorFile()]) { own, _ in own }
        let entries = files.sorted { $0.key < $1.key }.map { name, bytes in
            "\"\(name)\":{\"sha256\":\"\(Digest.sha256(bytes))\",\"bytes\":\(bytes.count)}"
        }
        return Array(manifest.replacing("%FILES%", with: "{" + entries.joined(separator: ",") + "}").utf8)
    }

    func write(to folder: TemporaryFolder) throws {
        let files = others.merging([Self.file: tensorFile()]) { own, _ in own }
        for (name, bytes) in files { try folder.write(name, bytes) }
        try folder.write("manifest.json", manifestBytes(files))
    }

    /// The snapshot of the bundle, through a folder of its own.
    func snapshot(_ arguments: [String] = []) throws -> Snapshot {
        let folder = try TemporaryFolder()
        try write(to: folder)
        return try SmallBundle.loader(arguments).load(folder.path)
    }

    static func loader(_ arguments: [String] = []) throws -> SnapshotLoader {
        SnapshotLoader(configuration: try Configuration(arguments: arguments), logger: silentLogger)
    }

    static var silentLogger: Logger { Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() } }

    private static let shared = Result { try SmallBundle().snapshot() }

    /// The undamaged bundle, loaded once.
    static func loaded() throws -> Snapshot { try shared.get() }

    private static func manifestText(towerLayers: Int) -> String {
        """
        {"format_version":1,"kind":"full","model_version":"small-1","space_version":"small","info":{"x":1},
        "files":%FILES%,
        "items":{"count":40,"attributes":[{"name":"title","type":"string"},
          {"name":"genres","type":"strings","filterable":true},{"name":"year","type":"number","filterable":true},
          {"name":"adult","type":"boolean","filterable":true}]},
        "users":{"count":8,"attributes":[{"name":"age","type":"number"},{"name":"hobbies","type":"strings"}],
          "histories":true},
        "features":[
          {"name":"user_row","from":"user_id","encode":"row","dimension":4},
          {"name":"age","from":"user","encode":"bins","boundaries":[20,40],"dimension":4},
          {"name":"hobbies","from":"user","encode":"vocabulary","vocabulary":["chess","golf"],"dimension":4,
            "pooling":"mean"},
          {"name":"recent","from":"history","encode":"pool","table":"item.vector","dimension":8,"last":4,
            "pooling":"mean"},
          {"name":"device","from":"context","encode":"vocabulary","vocabulary":["tv","phone"],"dimension":2},
          {"name":"genres","from":"item","encode":"vocabulary","vocabulary":["drama","comedy","war"],
            "dimension":3,"pooling":"mean"},
          {"name":"year","from":"item","encode":"squash","function":"identity","mean":2000,"std":10},
          {"name":"price","from":"item","encode":"squash","function":"log1p","mean":0,"std":1},
          {"name":"t_score","from":"stage","encode":"stage","stage":"tower.score"},
          {"name":"s_score","from":"stage","encode":"stage","stage":"sequence.score"},
          {"name":"s_dot","from":"stage","encode":"stage","stage":"sequence.dot"},
          {"name":"s_vector","from":"stage","encode":"stage","stage":"sequence.vector"},
          {"name":"pop","from":"stage","encode":"stage","stage":"item.popularity","mean":20,"std":10}],
        "retrieval":{"metric":"inner_product","dimension":8,"candidates":30,"index":{"kind":"flat"},
          "sources":{"tower":20,"sequence":20,"item_to_item":10,"popular":10}},
        "tower":{"inputs":\(towerLayers > 0 ? #"["user_row","age","hobbies","recent"]"# : #"["recent"]"#),
          "layers":\(towerLayers),"activation":"relu","normalize":"l2"},
        "sequence":{"family":"hstu","dimension":8,"layers":1,"heads":1,"max_events":16,"window_block":4,
          "actions":["unknown","view","like"],"dot":{"normalize":"l2","temperature":0.05},"target":true,
          "qk_dimension":4,"value_dimension":4,"normalizer":20,"position_bias":true,"time_bias":true},
        "ranker":{"family":"dcn_v2",
          "inputs":["device","genres","year","price","t_score","s_score","s_dot","s_vector","pop"],
          "structure":"stacked","cross_layers":1,"cross_rank":0,"deep":[6],"activation":"relu",
          "tasks":[{"name":"view"},{"name":"like","calibration":{"kind":"platt","a":1.1,"b":-0.2}}]},
        "value":{"form":"linear","weights":{"view":1,"like":0.5}},
        "tolerances":{"golden":1e-4}}
        """
    }
}

/// A folder that goes with its owner.
final class TemporaryFolder {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/recserver-tests-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ bytes: [UInt8]) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
    }

    func read(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: path + "/" + name)))
    }

    func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: path + "/" + name) }

    func names(in folder: String = ".") throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path + "/" + folder).sorted()
    }
}

extension RecommendPipeline {
    convenience init(_ snapshot: Snapshot, _ arguments: [String] = []) throws {
        self.init(snapshot, PipelineSettings(try Configuration(arguments: arguments)), Metrics())
    }

    /// Answers a body that arrived `age` nanoseconds ago; a long deadline keeps a slow machine from
    /// degrading.
    func answer(_ text: String, age: UInt64 = 0) throws(Problem) -> Recommendation {
        var request = try RecommendRequest(body: Array(text.utf8))
        request.deadlineMilliseconds = request.deadlineMilliseconds ?? 10_000
        let now = MonotonicClock.nanoseconds
        var clock = StageClock(start: now)
        return try recommend(request, receivedAt: now &- age, clock: &clock)
    }
}
