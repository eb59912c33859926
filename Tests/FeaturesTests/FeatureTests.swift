import Kernels
import RecCore
import TestSupport
import Testing

@testable import Artifacts
@testable import Features

@Suite struct FeatureTests {
    static let items = 12
    static let users = 3

    /// Tables by feature name, the encoder over all features, and the twin's double-precision view of the
    /// tables.
    struct Fixture {
        let definitions: [FeatureDefinition]
        let tables: [String: Matrix]
        let schema: FeatureSchema
        let encoder: FeatureEncoder

        init(
            _ definitions: [FeatureDefinition], inputs: [String]? = nil,
            attributes: some ItemAttributes = Catalogue(),
            tableMaximum: Int = FeatureEncoder.itemTableMaximum
        ) throws {
            self.definitions = definitions
            var random = SeededRandom(4)
            var tables: [String: Matrix] = [:]
            var writer = SafeTensorsWriter()
            for definition in definitions {
                let (rows, columns) = FeatureTests.shape(definition)
                guard rows > 0, tables[definition.table] == nil else { continue }
                let matrix = Matrix(
                    rows: rows, columns: columns,
                    values: (0..<rows * columns).map { _ in Float.random(in: -2...2, using: &random) })
                tables[definition.table] = matrix
                writer.add(definition.table, matrix)
            }
            self.tables = tables
            let tensors = try BundleTensors(files: [(name: "t.safetensors", bytes: FileBytes(writer.file()))])
            schema = try FeatureSchema(try FeatureTests.manifest(definitions), tables: SharedTables(tensors))
            try tensors.refuseUnread()
            encoder = try schema.encoder(
                inputs: inputs ?? definitions.map(\.name), for: .ranker, attributes: attributes,
                tableMaximum: tableMaximum)
        }

        func row(_ feature: String, _ row: Int) -> [Double] {
            let definition = definitions.first { $0.name == feature }!
            return tables[definition.table]!.copyRow(row).map(Double.init)
        }

        func encode(_ query: Query, _ candidates: [Candidate], stages: StageValues = StageValues()) throws
            -> [[Double]]
        {
            let rows = MutableMatrix(rows: candidates.count, columns: encoder.width)
            for row in candidates.indices {
                try encoder.encodeQuery(query, userVector: stages.userVector, into: rows.view, row: row)
            }
            try encoder.encodeCandidates(candidates[...], stages: stages, into: rows.view)
            return (0..<candidates.count).map { rows.copyRow($0).map(Double.init) }
        }
    }

    /// Attributes 0 colour (string), 1 tags (strings), 2 price (number), 3 fresh (boolean), each missing for
    /// some items.
    struct Catalogue: ItemAttributes {
        func value(row: Int, attribute: Int) -> FeatureValue? {
            if row % 5 == attribute { return nil }
            switch attribute {
            case 0: return .string(["red", "blue", "grün"][row % 3])
            case 1: return .strings((0..<row % 4).map { "tag\($0 * row % 6)" })
            case 2: return .number(Double(row * row) - 20)
            default: return .boolean(row % 2 == 0)
            }
        }
    }

    static func manifest(_ definitions: [FeatureDefinition]) throws -> Manifest {
        let text = """
            {"format_version": 1, "kind": "full", "model_version": "m", "space_version": "s", "files": {},
            "items": {"count": 12, "attributes": [{"name": "colour", "type": "string"}, {"name": "tags",
            "type": "strings"},
            {"name": "price", "type": "number"}, {"name": "fresh", "type": "boolean"}]},
            "users": {"count": 3, "attributes": [{"name": "likes", "type": "strings"}], "histories": false},
            "retrieval": {"metric": "inner_product", "dimension": 4,
            "index": {"kind": "flat"}, "sources": {}},
            "tower": {"inputs": [], "layers": 0},
            "sequence": {"family": "hstu", "dimension": 3, "layers": 1, "heads": 1, "max_events": 4,
            "qk_dimension": 1, "value_dimension": 1, "normalizer": 5, "position_bias": false,
            "time_bias": false,
            "actions": ["unknown", "view", "buy"], "target": true}}
            """
        var manifest = try ManifestDecoder.decode(Array(text.utf8))
        manifest.features = definitions
        return manifest
    }

    static func shape(_ definition: FeatureDefinition) -> (Int, Int) {
        switch definition.encoding {
        case .vocabulary(let words, let dimension, _): (words.count + 1, dimension)
        case .hash(let buckets, let dimension, _): (buckets + 1, dimension)
        case .bins(let boundaries, let dimension): (boundaries.count + 2, dimension)
        case .row(let dimension): (definition.origin == .userID ? users + 1 : items, dimension)
        case .pool(let dimension, _, _, _): (items, dimension)
        case .squash, .stage: (0, 0)
        }
    }

    static func candidates(_ rows: [Int]) -> [Candidate] {
        rows.map { Candidate(row: $0, sources: .request) }
    }

    func expect(_ found: [Double], _ expected: [Double], at location: SourceLocation = #_sourceLocation) {
        #expect(found.count == expected.count, sourceLocation: location)
        for (a, b) in zip(found, expected) {
            #expect(abs(a - b) <= 2e-6 * max(1, abs(b)), sourceLocation: location)
        }
    }

    // MARK: Words

    @Test func `words are looked up as the page says, whatever their type`() throws {
        let f = try Fixture([
            FeatureDefinition(
                name: "word", origin: .context,
                encoding: .vocabulary(
                    ["a", "true", "-3", "0", "9007199254740993"], dimension: 3, pooling: nil))
        ])
        let cases: [(FeatureValue?, Int)] = [
            (nil, 0), (.string("a"), 1), (.string("b"), 0), (.string(""), 0), (.string("A"), 0),
            (.boolean(true), 2), (.boolean(false), 0),
            (.number(-3), 3), (.number(-3.5), 0), (.number(-0.0), 4), (.number(.nan), 0),
            (.number(.infinity), 0), (.string("-3"), 3),
        ]
        for (value, row) in cases {
            let query = Query(now: 0, contextFeatures: value.map { ["word": $0] } ?? [:])
            expect(try f.encode(query, Self.candidates([0]))[0], f.row("word", row))
        }
    }

    @Test func `hashing is FNV-1a of the UTF-8 bytes`() throws {
        #expect(fnv1a("") == 0xcbf2_9ce4_8422_2325)
        #expect(fnv1a("a") == 0xaf63_dc4c_8601_ec8c)
        #expect(fnv1a("foobar") == 0x8594_4171_f739_67e8)
        let f = try Fixture([
            FeatureDefinition(
                name: "h", origin: .user, encoding: .hash(buckets: 7, dimension: 2, pooling: nil))
        ])
        for text in ["a", "grün", "\u{0}", "", "true", "12"] {
            var hash: UInt64 = 14_695_981_039_346_656_037
            for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 1_099_511_628_211 }
            let query = Query(now: 0, userFeatures: ["h": .string(text)])
            expect(try f.encode(query, Self.candidates([0]))[0], f.row("h", 1 + Int(hash % 7)))
        }
        let number = try f.encode(Query(now: 0, userFeatures: ["h": .number(12)]), Self.candidates([0]))
        let text = try f.encode(Query(now: 0, userFeatures: ["h": .string("12")]), Self.candidates([0]))
        #expect(number == text)
        expect(
            try f.encode(Query(now: 0, userFeatures: ["h": .number(1.5)]), Self.candidates([0]))[0],
            f.row("h", 0))
        expect(try f.encode(Query(now: 0), Self.candidates([0]))[0], f.row("h", 0))
    }

    @Test func `integral numbers of any size read as their decimal digits`() {
        for (number, digits) in [
            (0.0, "0"), (-0.0, "0"), (5, "5"), (-17, "-17"), (9_007_199_254_740_992, "9007199254740992"),
            (1e18, "1000000000000000000"),
            (9_223_372_036_854_775_808, "9223372036854775808"),
            (-9_223_372_036_854_775_808, "-9223372036854775808"),
            (1e20, "100000000000000000000"), (-1e22, "-10000000000000000000000"),
            (1e23, "99999999999999991611392"),
            (0x1p100, "1267650600228229401496703205376"),
        ] {
            #expect(decimalDigits(number) == digits)
        }
        #expect(decimalDigits(.greatestFiniteMagnitude)?.count == 309)
        #expect(decimalDigits(0.5) == nil && decimalDigits(.nan) == nil && decimalDigits(-.infinity) == nil)
    }

    @Test func `pooled words count unknown values, and nothing gives zeros`() throws {
        for pooling in [Pooling.mean, .sum] {
            let f = try Fixture([
                FeatureDefinition(
                    name: "w", origin: .user, key: "likes",
                    encoding: .vocabulary(["x", "1"], dimension: 3, pooling: pooling))
            ])
            func expected(_ rows: [Int]) -> [Double] {
                (0..<3).map { c in
                    let sum = rows.reduce(0.0) { $0 + f.row("w", $1)[c] }
                    return pooling == .mean && !rows.isEmpty ? sum / Double(rows.count) : sum
                }
            }
            let cases: [(FeatureValue?, [Int])] = [
                (nil, []), (.strings([]), []), (.strings(["x"]), [1]),
                (.strings(["x", "?", "x", "1"]), [1, 0, 1, 2]), (.string("x"), [1]),
                (.string("?"), [0]), (.number(1), [2]), (.number(1.5), [0]), (.boolean(true), [0]),
            ]
            for (value, rows) in cases {
                let query = Query(now: 0, userFeatures: value.map { ["likes": $0] } ?? [:])
                expect(try f.encode(query, Self.candidates([0]))[0], expected(rows))
            }
        }
    }

    // MARK: Numbers

    @Test func `bins count the boundaries at or below the number`() throws {
        let boundaries = [-1.5, 0, 2, 2.5]
        let f = try Fixture([
            FeatureDefinition(name: "b", origin: .context, encoding: .bins(boundaries, dimension: 2))
        ])
        for x in [-1e308, -1.5000001, -1.5, -1, -0.0, 0, 1.999, 2, 2.4, 2.5, 7, 1e308] {
            let expected = f.row("b", 1 + boundaries.filter { $0 <= x }.count)
            expect(
                try f.encode(Query(now: 0, contextFeatures: ["b": .number(x)]), Self.candidates([0]))[0],
                expected)
        }
        for value in [FeatureValue.string("2"), .boolean(true)] {
            expect(
                try f.encode(Query(now: 0, contextFeatures: ["b": value]), Self.candidates([0]))[0],
                f.row("b", 0))
        }
    }

    @Test func `squash standardises, and marks what is missing`() throws {
        let f = try Fixture([
            FeatureDefinition(
                name: "i", origin: .context, key: "x",
                encoding: .squash(function: .identity, mean: 3, deviation: 2)),
            FeatureDefinition(
                name: "l", origin: .context, key: "x",
                encoding: .squash(function: .log1p, mean: -1, deviation: 0.5)),
        ])
        for x in [-1e30, -5.5, -1, 0, 1e-9, 2, 1e30] {
            let log = (x < 0 ? -1.0 : 1) * naturalLogarithm(1 + abs(x))
            let found = try f.encode(Query(now: 0, contextFeatures: ["x": .number(x)]), Self.candidates([0]))[
                0]
            expect(found, [(x - 3) / 2, 0, (log + 1) / 0.5, 0])
        }
        for value in [nil, FeatureValue.string("5"), .boolean(false)] {
            let query = Query(now: 0, contextFeatures: value.map { ["x": $0] } ?? [:])
            #expect(try f.encode(query, Self.candidates([0]))[0] == [0, 1, 0, 1])
        }
    }

    @Test func `arrays where one value is wanted and numbers without a place are refused by name`() throws {
        let f = try Fixture([
            FeatureDefinition(
                name: "w", origin: .context, key: "k1",
                encoding: .vocabulary(["a"], dimension: 2, pooling: nil)),
            FeatureDefinition(name: "b", origin: .context, key: "k2", encoding: .bins([0], dimension: 2)),
            FeatureDefinition(
                name: "s", origin: .context, key: "k3",
                encoding: .squash(function: .identity, mean: 0, deviation: 1e-9)),
            FeatureDefinition(
                name: "i", origin: .item, key: "colour",
                encoding: .hash(buckets: 3, dimension: 2, pooling: nil)),
        ])
        let cases: [(String, FeatureValue, FeatureError)] = [
            ("k1", .strings(["a"]), .arrayNotAllowed(feature: "w", key: "k1")),
            ("k1", .strings([]), .arrayNotAllowed(feature: "w", key: "k1")),
            ("k2", .strings(["1"]), .arrayNotAllowed(feature: "b", key: "k2")),
            ("k2", .number(.nan), .outOfRange(feature: "b", key: "k2")),
            ("k3", .strings(["1"]), .arrayNotAllowed(feature: "s", key: "k3")),
            ("k3", .number(1e30), .outOfRange(feature: "s", key: "k3")),
            ("k3", .number(.infinity), .outOfRange(feature: "s", key: "k3")),
        ]
        for (key, value, error) in cases {
            #expect(throws: error) {
                try f.encode(Query(now: 0, contextFeatures: [key: value]), Self.candidates([0]))
            }
        }
        var candidate = Candidate(row: 0, sources: .request)
        candidate.features = ["colour": .strings(["red"])]
        #expect(throws: FeatureError.arrayNotAllowed(feature: "i", key: "colour")) {
            try f.encode(Query(now: 0), [candidate])
        }
    }

    // MARK: Rows, history, items, stages

    @Test func `ids choose their rows, and an unknown user has row 0`() throws {
        let f = try Fixture([
            FeatureDefinition(name: "u", origin: .userID, encoding: .row(dimension: 3)),
            FeatureDefinition(name: "i", origin: .itemID, encoding: .row(dimension: 2)),
        ])
        for user in [nil, 0, 1, 2, 3, 1_000_000, -5, Int.max] as [Int?] {
            let known = user.map { (0..<Self.users).contains($0) } ?? false
            let found = try f.encode(Query(userRow: user, now: 0), Self.candidates([4, 11]))
            expect(found[0], f.row("u", known ? user! + 1 : 0) + f.row("i", 4))
            expect(found[1], f.row("u", known ? user! + 1 : 0) + f.row("i", 11))
        }
    }

    @Test func `history pools the newest events of the named actions`() throws {
        for (pooling, actions) in [
            (Pooling.mean, nil), (.sum, nil), (.mean, ["buy"]), (.sum, ["view", "buy"]),
        ] as [(Pooling, [String]?)] {
            let f = try Fixture([
                FeatureDefinition(
                    name: "p", origin: .history,
                    encoding: .pool(dimension: 4, last: 3, pooling: pooling, actions: actions),
                    table: "shared")
            ])
            let indices = actions.map { Set($0.map { ["unknown", "view", "buy"].firstIndex(of: $0)! }) }
            var random = SeededRandom(8)
            for count in [0, 1, 2, 3, 9] {
                let history = (0..<count).map { _ in
                    HistoryEvent(
                        row: Int.random(in: 0..<Self.items, using: &random),
                        action: Int.random(in: 0..<3, using: &random))
                }
                let rows = history.filter { indices?.contains($0.action) ?? true }.suffix(3).map(\.row)
                let expected = (0..<4).map { c in
                    let sum = rows.reduce(0.0) { $0 + f.row("p", $1)[c] }
                    return pooling == .mean && !rows.isEmpty ? sum / Double(rows.count) : sum
                }
                expect(try f.encode(Query(history: history, now: 0), Self.candidates([0]))[0], expected)
            }
        }
    }

    /// Attributes under every encoding, one that only requests give, and others between them.
    static let itemFeatures = [
        FeatureDefinition(
            name: "tags_mean", origin: .item, key: "tags",
            encoding: .hash(buckets: 5, dimension: 3, pooling: .mean)),
        FeatureDefinition(
            name: "colour", origin: .item,
            encoding: .vocabulary(["red", "grün"], dimension: 2, pooling: nil)),
        FeatureDefinition(name: "price", origin: .item, encoding: .bins([0, 10, 40], dimension: 2)),
        FeatureDefinition(
            name: "price_s", origin: .item, key: "price",
            encoding: .squash(function: .log1p, mean: 1, deviation: 3)),
        FeatureDefinition(
            name: "fresh", origin: .item,
            encoding: .vocabulary(["true", "false"], dimension: 2, pooling: .sum)),
        FeatureDefinition(
            name: "bid", origin: .item, encoding: .squash(function: .identity, mean: 0, deviation: 1)),
    ]

    @Test func `item features come from the catalogue, or from the candidate's own values`() throws {
        let f = try Fixture(Self.itemFeatures)
        func one(_ feature: FeatureDefinition, _ value: FeatureValue?) throws -> [Double] {
            // The same value through the request's path, which the tests above pin.
            let alone = try Fixture(
                f.definitions.map {
                    FeatureDefinition(name: $0.name, origin: .context, key: $0.key, encoding: $0.encoding)
                },
                inputs: [feature.name])
            return try alone.encode(
                Query(now: 0, contextFeatures: value.map { [feature.key: $0] } ?? [:]), Self.candidates([0]))[
                    0]
        }
        let keys = ["colour": 0, "tags": 1, "price": 2, "fresh": 3]
        let own: FeatureValues = [
            "bid": .number(2.5), "tags": .strings(["tag1", "new"]), "price": .number(11),
        ]
        let found = try f.encode(
            Query(now: 0),
            (0..<Self.items).map { Candidate(row: $0, sources: .request, features: $0 % 2 == 0 ? [:] : own) })
        for item in 0..<Self.items {
            let expected = try f.definitions.flatMap { feature in
                let stored = keys[feature.key].flatMap { Catalogue().value(row: item, attribute: $0) }
                return try one(feature, item % 2 == 0 ? stored : own[feature.key] ?? stored)
            }
            expect(found[item], expected)
        }
    }

    @Test func `encoding attributes at load gives the bits of encoding them per candidate`() throws {
        var definitions = Self.itemFeatures
        definitions.insert(
            FeatureDefinition(name: "row", origin: .itemID, encoding: .row(dimension: 3)), at: 2)
        definitions.insert(
            FeatureDefinition(
                name: "where", origin: .context, encoding: .hash(buckets: 3, dimension: 2, pooling: nil)),
            at: 4)
        var random = SeededRandom(31)
        let candidates = (0..<40).map { _ in
            var own: FeatureValues = [:]
            if Bool.random(using: &random) { own["tags"] = .strings(["tag1", "new", "tag2"]) }
            if Bool.random(using: &random) {
                own["price"] = .number(Double.random(in: -9...99, using: &random))
            }
            if Bool.random(using: &random) { own["bid"] = .number(1) }
            let isPlain = Bool.random(using: &random)
            return Candidate(
                row: Int.random(in: 0..<Self.items, using: &random), sources: .request,
                features: isPlain ? [:] : own)
        }
        let query = Query(now: 0, contextFeatures: ["where": .string("here")])
        let expected = try Fixture(definitions, tableMaximum: 0).encode(query, candidates)
        // Rows of 1 to 11 floats: none, some and all of the attributes fit.
        for columns in 1...12 {
            let f = try Fixture(definitions, tableMaximum: columns * Self.items * 4)
            #expect(try f.encode(query, candidates) == expected)
        }
        let f = try Fixture(definitions)
        #expect(try f.encode(query, candidates) == expected)
        #expect(throws: FeatureError.arrayNotAllowed(feature: "colour", key: "colour")) {
            try f.encode(
                query, [Candidate(row: 0, sources: .request, features: ["colour": .strings(["red"])])])
        }
    }

    @Test func `query and candidates write the columns that are theirs, together all of them`() throws {
        let definitions =
            Self.itemFeatures + [
                FeatureDefinition(
                    name: "where", origin: .context, encoding: .hash(buckets: 3, dimension: 2, pooling: nil)),
                FeatureDefinition(
                    name: "score", origin: .stage, encoding: .stage(.towerScore, mean: 0, deviation: 1)),
            ]
        let f = try Fixture(definitions)
        let rows = MutableMatrix(rows: 2, columns: f.encoder.width)
        rows.view.fill(.nan)
        try f.encoder.encodeQuery(Query(now: 0), into: rows.view, row: 0)
        try f.encoder.encodeCandidates(
            Self.candidates([3])[...], stages: StageValues(), into: rows.view(rows: 1..<2))
        for column in 0..<f.encoder.width {
            let isCandidates = f.encoder.candidateRanges.contains { $0.contains(column) }
            #expect(rows[0, column].isNaN == isCandidates)
            #expect(rows[1, column].isNaN == !isCandidates)
        }
    }

    @Test func `stages are standardised, and an absent one counts as zeros`() throws {
        let f = try Fixture(
            Stage.allCases.filter { $0 != .sequenceDot }.map {
                FeatureDefinition(
                    name: $0.rawValue, origin: .stage, encoding: .stage($0, mean: 0.5, deviation: 2))
            })
        #expect(f.encoder.width == 1 + 4 + 4 + 1 + 3 + 1)
        var random = SeededRandom(9)
        func matrix(_ rows: Int, _ columns: Int) -> Matrix {
            Matrix(
                rows: rows, columns: columns,
                values: (0..<rows * columns).map { _ in Float.random(in: -1...1, using: &random) })
        }
        let user = matrix(1, 4), vectors = matrix(Self.items, 4), popularity = matrix(1, Self.items),
            scores = matrix(3, 1), sequence = matrix(3, 3)
        var stages = StageValues()
        let candidates = [7, 0, 11].map { Candidate(row: $0, sources: .tower, retrievalScore: Float($0) / 3) }
        let zeros = try f.encode(Query(now: 0), candidates, stages: stages)[0].enumerated().allSatisfy {
            $0 == 0 || $1 == -0.25
        }
        #expect(zeros)
        stages.userVector = user.view
        stages.itemVectors = vectors.view
        stages.popularity = popularity.view
        stages.sequenceScore = scores.view
        stages.sequenceVector = sequence.view
        let found = try f.encode(Query(now: 0), candidates, stages: stages)
        for (i, candidate) in candidates.enumerated() {
            let raw =
                [candidate.retrievalScore] + user.copyRow(0) + vectors.copyRow(candidate.row)
                + scores.copyRow(i) + sequence.copyRow(i)
                + [popularity[0, candidate.row]]
            expect(found[i], raw.map { (Double($0) - 0.5) / 2 })
        }
    }

    // MARK: Validation

    @Test func `schemas that do not fit the manifest are refused`() throws {
        func word(_ name: String, _ origin: FeatureOrigin, key: String? = nil) -> FeatureDefinition {
            FeatureDefinition(
                name: name, origin: origin, key: key, encoding: .vocabulary(["a"], dimension: 2, pooling: nil)
            )
        }
        let bad: [[FeatureDefinition]] = [
            [word("w", .context), word("w", .user)], [word("w", .item, key: "tags")],
            [word("w", .user, key: "likes")], [word("w", .stage)],
            [FeatureDefinition(name: "b", origin: .item, key: "tags", encoding: .bins([1], dimension: 2))],
            [FeatureDefinition(name: "b", origin: .context, encoding: .bins([1, 1], dimension: 2))],
            [
                FeatureDefinition(
                    name: "b", origin: .context,
                    encoding: .vocabulary(["a", "a"], dimension: 2, pooling: nil))
            ],
            [FeatureDefinition(name: "r", origin: .context, encoding: .row(dimension: 2))],
            [
                FeatureDefinition(
                    name: "d", origin: .stage, encoding: .stage(.sequenceDot, mean: 0, deviation: 1))
            ],
            [
                FeatureDefinition(
                    name: "p", origin: .history,
                    encoding: .pool(dimension: 2, last: 1, pooling: .sum, actions: ["fly"]))
            ],
            // Two shapes under one table name.
            [
                FeatureDefinition(name: "x", origin: .itemID, encoding: .row(dimension: 2), table: "t"),
                FeatureDefinition(name: "y", origin: .itemID, encoding: .row(dimension: 3), table: "t"),
            ],
        ]
        for definitions in bad {
            #expect(throws: BundleError.self) { try Fixture(definitions) }
        }
    }

    @Test func `an encoder refuses unknown and repeated names, and the tower what it may not see`() throws {
        let f = try Fixture([
            FeatureDefinition(name: "c", origin: .context, encoding: .bins([1], dimension: 2)),
            FeatureDefinition(name: "i", origin: .itemID, encoding: .row(dimension: 2)),
            FeatureDefinition(
                name: "s", origin: .stage, encoding: .stage(.towerScore, mean: 0, deviation: 1)),
            FeatureDefinition(name: "a", origin: .item, key: "price", encoding: .bins([1], dimension: 2)),
            FeatureDefinition(name: "u", origin: .userID, encoding: .row(dimension: 3)),
        ])
        for inputs in [["x"], ["c", "c"]] {
            #expect(throws: BundleError.self) { try f.schema.encoder(inputs: inputs, for: .ranker) }
        }
        for name in ["i", "s", "a"] {
            let error = #expect(throws: BundleError.self) {
                try f.schema.encoder(inputs: ["c", name], for: .tower)
            }
            #expect(error?.tensor == "/tower/inputs/1" && error?.found == name)
        }
        #expect(try f.schema.encoder(inputs: ["u", "c"], for: .tower).width == 5)
        struct Huge: ItemAttributes {
            func value(row: Int, attribute: Int) -> FeatureValue? { .number(.infinity) }
        }
        #expect(throws: BundleError.self) {
            try f.schema.encoder(inputs: ["a"], for: .ranker, attributes: Huge())
        }
    }
}
