import Features
import Kernels
import RecCore
import TestSupport
import Testing

@testable import Artifacts
@testable import Ranking

@Suite struct RankerTests {
    static let items = 25
    static let vectorWidth = 5

    /// A whole small bundle: HSTU with both heads, a ranker that reads every kind of feature, two tasks.
    struct Bundle {
        let sequence: HSTUTwin
        let manifest: Manifest
        let model: RankingModel
        let tensors: TensorSet

        init(_ seed: UInt64, breaking tensor: String? = nil) throws {
            sequence = HSTUTwin.random(seed, position: true, time: true)
            var r = SeededRandom(seed + 1)
            var t = sequence.tensors
            let d = sequence.configuration.dimension
            t.add("sequence.item_embedding.weight", [RankerTests.items, d], scale: 0.5, &r)
            t.add("item.vector", [RankerTests.items, RankerTests.vectorWidth], &r)
            t.add("item.popularity", [RankerTests.items], &r)
            t.add("feature.parity.weight", [3, 2], &r)
            t.add("feature.country.weight", [6, 3], &r)
            let features = [
                FeatureDefinition(
                    name: "parity", origin: .item,
                    encoding: .vocabulary(["even", "odd"], dimension: 2, pooling: nil)),
                FeatureDefinition(
                    name: "country", origin: .context, encoding: .hash(buckets: 5, dimension: 3, pooling: nil)
                ),
                FeatureDefinition(
                    name: "score", origin: .stage, encoding: .stage(.sequenceScore, mean: 0.5, deviation: 2)),
                FeatureDefinition(
                    name: "vector", origin: .stage, encoding: .stage(.sequenceVector, mean: 0, deviation: 1)),
                FeatureDefinition(
                    name: "dot", origin: .stage, encoding: .stage(.sequenceDot, mean: 0, deviation: 1)),
                FeatureDefinition(
                    name: "tower", origin: .stage, encoding: .stage(.towerScore, mean: 0, deviation: 1)),
                FeatureDefinition(
                    name: "user", origin: .stage, encoding: .stage(.towerUserVector, mean: 0, deviation: 1)),
                FeatureDefinition(
                    name: "item", origin: .stage, encoding: .stage(.towerItemVector, mean: 0, deviation: 1)),
                FeatureDefinition(
                    name: "popular", origin: .stage,
                    encoding: .stage(.itemPopularity, mean: 0, deviation: 1)),
            ]
            let width = 2 + 3 + 1 + d + 1 + 1 + 2 * RankerTests.vectorWidth + 1
            t.add("ranker.cross.0.weight", [width, width], scale: 0.1, &r)
            t.add("ranker.cross.0.bias", [width], scale: 0.1, &r)
            t.add("ranker.deep.0.weight", [7, width], scale: 0.3, &r)
            t.add("ranker.deep.0.bias", [7], scale: 0.3, &r)
            t.add("ranker.head.weight", [2, 7], scale: 0.5, &r)
            t.add("ranker.head.bias", [2], scale: 0.5, &r)
            if let tensor {
                // Finite, but so large that products overflow.
                let entry = t.entries[tensor]!
                t.set(tensor, entry.shape, entry.values.map { $0 < 0 ? -3e38 : 3e38 })
            }
            let ranker = RankerConfiguration(
                inputs: features.map(\.name), structure: .stacked, crossLayers: 1, deep: [7],
                tasks: [
                    TaskDefinition(name: "watch"),
                    TaskDefinition(name: "like", calibration: .platt(a: 1.2, b: 0.1)),
                ])
            tensors = t
            let manifest = try Manifest.sample(
                features: features, sequence: sequence.configuration, ranker: ranker,
                value: ValueConfiguration(form: .linear, weights: ["watch": 1, "like": 0.5]))
            self.manifest = manifest
            let bundle = try t.bundle()
            let tables = SharedTables(bundle)
            let schema = try FeatureSchema(manifest, tables: tables)
            struct Parity: ItemAttributes {
                func value(row: Int, attribute: Int) -> FeatureValue? {
                    row % 3 == 0 ? nil : .string(row % 2 == 0 ? "even" : "odd")
                }
            }
            model = try RankingModel(
                manifest, tensors: bundle, tables: tables, schema: schema, attributes: Parity())
            try bundle.refuseUnread()
        }
    }

    static func query(_ random: inout SeededRandom, events: Int = 30) -> Query {
        Query(
            history: randomHistory(events, items: items, actions: 3, &random), now: 1.63e9,
            contextFeatures: ["country": .string("NZ")])
    }

    static func candidates(_ count: Int, _ random: inout SeededRandom) -> [Candidate] {
        (0..<count).map { _ in
            Candidate(
                row: Int.random(in: 0..<items, using: &random), sources: .request,
                retrievalScore: Float.random(in: -1...1, using: &random))
        }
    }

    func run(
        _ ranker: Ranker, _ query: Query, _ candidates: [Candidate], user: Matrix?, sequence: Bool = true
    ) throws -> [Double?] {
        ranker.begin(query)
        if sequence { ranker.prefill(keepingRows: true) }
        try ranker.take(candidates)
        if sequence { ranker.scoreSequence() }
        try ranker.rank(userVector: user?.view, keepingInputs: true)
        return try ranker.values()
    }

    @Test func `every stage output of a whole request equals the twins`() throws {
        for seed in 0..<6 {
            let bundle = try Bundle(UInt64(seed))
            var random = SeededRandom(UInt64(40 + seed))
            let query = Self.query(&random), candidates = Self.candidates(11, &random)
            let user = Matrix(
                rows: 1, columns: 5, values: (0..<5).map { _ in Float.random(in: -1...1, using: &random) })
            let ranker = Ranker(bundle.model, capacity: 20, microbatch: 3, blockRows: 4)
            let values = try run(ranker, query, candidates, user: user)
            let twin = HSTUTwin(
                configuration: bundle.sequence.configuration, qk: bundle.sequence.qk, v: bundle.sequence.v,
                n: bundle.sequence.n,
                hasPosition: true, hasTime: true, tensors: bundle.tensors, items: Self.items)
            let events = twin.window(query.history, offset: 0)
            let rows = twin.rows(events, now: query.now)
            expectTwin(doubles(try #require(ranker.historyRows)), rows.flatMap(\.self))
            let heads = candidates.map { twin.target(events, now: query.now, candidate: $0.row) }
            expectTwin(doubles(try #require(ranker.sequenceScores)), heads.map(\.score))
            expectTwin(doubles(try #require(ranker.sequenceVectors)), heads.flatMap(\.vector))
            let dots = candidates.map { twin.dot(rows.last!, candidate: $0.row) }
            expectTwin(doubles(try #require(ranker.sequenceDots)), dots)

            let parity = bundle.tensors.rows("feature.parity.weight"),
                country = bundle.tensors.rows("feature.country.weight")
            var hash: UInt64 = 14_695_981_039_346_656_037
            for byte in "NZ".utf8 { hash = (hash ^ UInt64(byte)) &* 1_099_511_628_211 }
            let inputs = candidates.indices.map { i -> [Double] in
                let item = candidates[i].row
                let word = item % 3 == 0 ? 0 : item % 2 == 0 ? 1 : 2
                return parity[word] + country[1 + Int(hash % 5)] + [(heads[i].score - 0.5) / 2]
                    + heads[i].vector + [dots[i]]
                    + [Double(candidates[i].retrievalScore)] + user.copyRow(0).map(Double.init)
                    + bundle.tensors.rows("item.vector")[item] + [
                        bundle.tensors.vector("item.popularity")[item]
                    ]
            }
            expectTwin(doubles(try #require(ranker.inputRows)), inputs.flatMap(\.self))
            let network = DCNV2Tests.Twin(bundle.manifest.ranker!, width: inputs[0].count, bundle.tensors)
            let logits = inputs.map { network.logits($0) }
            expectTwin(doubles(try #require(ranker.logits)), logits.flatMap(\.self))
            let probabilities = logits.map { [sigmoid($0[0]), sigmoid(1.2 * $0[1] + 0.1)] }
            expectTwin(
                candidates.indices.flatMap { Array(ranker.probabilities(of: $0)) },
                probabilities.flatMap(\.self))
            expectTwin(values.map { $0 ?? .nan }, probabilities.map { $0[0] + 0.5 * $0[1] })
        }
    }

    @Test func `a value depends on neither company, order, microbatch nor the request before`() throws {
        let bundle = try Bundle(21)
        var random = SeededRandom(22)
        let query = Self.query(&random), candidates = Self.candidates(60, &random)
        let reference = try run(Ranker(bundle.model, capacity: 60), query, candidates, user: nil).map { $0! }
        let ranker = Ranker(bundle.model, capacity: 60, microbatch: 7, blockRows: 5)
        _ = try run(ranker, Self.query(&random, events: 77), Self.candidates(33, &random), user: nil)
        expectSame(try run(ranker, query, candidates, user: nil).map { $0! }, reference)
        let order = Array(candidates.indices).shuffled(using: &random)
        expectSame(
            try run(ranker, query, order.map { candidates[$0] }, user: nil).map { $0! },
            order.map { reference[$0] })
        expectSame(try candidates.map { try run(ranker, query, [$0], user: nil)[0]! }, reference)
    }

    @Test func `a skipped sequence stage and an empty history both give zeros to the ranker`() throws {
        let bundle = try Bundle(23)
        var random = SeededRandom(24)
        var query = Self.query(&random)
        let candidates = Self.candidates(6, &random)
        let ranker = Ranker(bundle.model, capacity: 6)
        let skipped = try run(ranker, query, candidates, user: nil, sequence: false)
        #expect(ranker.sequenceScores == nil && ranker.sequenceValues().isEmpty)
        query.history = []
        let cold = try run(ranker, query, candidates, user: nil)
        #expect(ranker.lastRow == nil)
        #expect(cold == skipped)
        #expect(ranker.sequenceValues() == [Double?](repeating: 0, count: 6))
    }

    @Test func `a candidate whose numbers overflow is flagged`() throws {
        for tensor in [
            "ranker.cross.0.weight", "ranker.head.weight", "sequence.target.weight", "item.vector",
        ] {
            let bundle = try Bundle(25, breaking: tensor)
            var random = SeededRandom(26)
            let candidates = Self.candidates(8, &random)
            let ranker = Ranker(bundle.model, capacity: 8)
            let values = try run(ranker, Self.query(&random), candidates, user: nil)
            #expect(values.allSatisfy { $0 == nil || $0!.isFinite })
            if tensor.hasPrefix("ranker.cross") { #expect(values.allSatisfy { $0 == nil }) }
        }
    }

    @Test func `hostile requests get typed errors`() throws {
        let bundle = try Bundle(27)
        var random = SeededRandom(28)
        let ranker = Ranker(bundle.model, capacity: 4)
        var query = Self.query(&random)
        ranker.begin(query)
        #expect(throws: RankingError.tooManyCandidates(count: 5, maximum: 4)) {
            try ranker.take(Self.candidates(5, &random))
        }
        query.contextFeatures["country"] = .strings(["NZ"])
        ranker.begin(query)
        try ranker.take(Self.candidates(2, &random))
        #expect(throws: RankingError.feature(.arrayNotAllowed(feature: "country", key: "country"))) {
            try ranker.rank()
        }
        #expect(try ranker.values().isEmpty)
        query.contextFeatures = [:]
        ranker.begin(query)
        try ranker.take(Self.candidates(2, &random))
        try ranker.rank()
        #expect(throws: RankingError.unknownTask("buy")) { try ranker.values(weights: ["buy": 1]) }
        #expect(try ranker.values(weights: ["watch": 0, "like": 0]) == [0, 0])
        ranker.begin(query)
        try ranker.take([])
        ranker.scoreSequence()
        try ranker.rank()
        #expect(try ranker.values().isEmpty)
    }
}

extension Manifest {
    /// A manifest of 25 items for the ranker's tests.
    static func sample(
        features: [FeatureDefinition], sequence: SequenceConfiguration?, ranker: RankerConfiguration?,
        value: ValueConfiguration?
    ) throws -> Manifest {
        let text = """
            {"format_version": 1, "kind": "full", "model_version": "m", "space_version": "s", "files": {},
            "items": {"count": 25, "attributes": [{"name": "parity", "type": "string"}]},
            "retrieval": {"metric": "inner_product", "dimension": 5,
            "index": {"kind": "flat"}, "sources": {}}, "tower": {"inputs": [], "layers": 0}}
            """
        var manifest = try ManifestDecoder.decode(Array(text.utf8))
        manifest.features = features
        manifest.sequence = sequence
        manifest.ranker = ranker
        manifest.value = value
        return manifest
    }
}
