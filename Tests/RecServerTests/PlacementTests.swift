import Artifacts
import Kernels
import Ranking
import RecCore
import Retrieval
import TestSupport
import Testing

@testable import RecServer

extension SmallBundle {
    /// The bundle with more sections in its manifest.
    init(adding sections: String) {
        self.init()
        manifest = manifest.replacing("\"tolerances\"", with: sections + ",\"tolerances\"")
    }
}

@Suite struct PlacementTests {
    static let sections = #"""
        "placements":{
          "plain":{},
          "pins":{"pins":[{"position":4,"item_ids":["i3","i9"]},{"position":1,"item_id":"i6"}]},
          "war":{"filter":{"field":"genres","in":["war"]},"pins":[{"position":1,"item_id":"i0"},{"position":2,"item_id":"i5"}]},
          "lift":{"boosts":[{"filter":{"field":"adult","in":[true]},"add":100},{"filter":{"field":"genres","in":["war"]},"factor":2}]},
          "caps":{"caps":[{"attribute":"genres","max":2},{"attribute":"adult","max":3}]},
          "popular":{"quotas":{"tower":0,"sequence":0,"item_to_item":0,"popular":30}},
          "likes":{"weights":{"view":0,"like":1},"diversity":0.5}},
        "experiment":{"salt":"salt-1","variants":[{"name":"control","share":30},{"name":"likes","share":60,"placement":"likes","weights":{"view":0.25}},{"name":"hidden","share":0,"weights":{"like":9}},{"name":"plain","share":10,"placement":"plain"}]}
        """#
    static let shared = Result { try SmallBundle(adding: sections).snapshot() }
    static let known = RecommendPipelineTests.known
    static let candidates = RecommendPipelineTests.candidates

    let snapshot: Snapshot
    let pipeline: RecommendPipeline

    init() throws {
        snapshot = try Self.shared.get()
        pipeline = try RecommendPipeline(snapshot)
    }

    func ids(_ extra: String) throws(Problem) -> [String] {
        try pipeline.answer("{\(Self.known)\(extra.isEmpty ? "" : ","),\(extra)}".replacing(",,", with: ","))
            .items.map(\.itemID)
    }

    func problem(_ text: String) -> Problem? {
        do throws(Problem) {
            _ = try pipeline.answer(text)
            return nil
        } catch { return error }
    }

    // MARK: - The whole pipeline

    @Test func `a placement without rules changes nothing, and is named`() throws {
        let plain = try pipeline.answer("{\(Self.known),\"placement\":\"plain\",\"variant\":\"control\"}")
        let none = try pipeline.answer("{\(Self.known),\"variant\":\"control\"}")
        #expect(plain.items.map(\.itemID) == none.items.map(\.itemID))
        #expect(plain.placement == "plain" && none.placement == nil)
    }

    @Test func `pinned items have their places and appear once`() throws {
        for n in [1, 2, 4, 5, 20, 40] {
            let base = #""variant":"control","exclude_seen":false,"n":\#(n)"#
            let plain = try ids(#"\#(base)"#)
            let answer = try pipeline.answer(#"{\#(Self.known),\#(base),"placement":"pins"}"#)
            let page = answer.items.map(\.itemID)
            #expect(page.count == n && Set(page).count == n && !answer.isShort)
            let pins = ["i6": 0, "i3": 3, "i9": 4].filter { $0.value < n }
            for (id, position) in pins { #expect(page[position] == id) }
            // The others keep their order.
            let others = page.filter { pins[$0] == nil }
            #expect(others == Array(plain.filter { pins[$0] == nil }.prefix(n - pins.count)))
            for item in answer.items {
                let sources = item.explanation?.sources ?? []
                #expect(sources.contains("pinned") == (pins[item.itemID] != nil))
            }
        }
    }

    @Test func `a pinned item is scored like any other`() throws {
        let pinned = try pipeline.answer("{\(Self.known),\"placement\":\"pins\",\"variant\":\"control\"}")
        let ranked = try pipeline.answer(
            "{\(Self.known),\"variant\":\"control\",\"candidates\":[\(Self.candidates)]}")
        let scores = Dictionary(uniqueKeysWithValues: ranked.items.map { ($0.itemID, $0.score) })
        for item in pinned.items {
            #expect(abs(item.score - (scores[item.itemID] ?? .infinity)) <= 1e-5 * (1 + abs(item.score)))
        }
    }

    @Test func `excluded and filtered items are not pinned, nor any beside given candidates`() throws {
        let base = #""variant":"control","exclude_seen":false,"placement":"pins""#
        #expect(try !ids(#"\#(base),"exclude":["i6","i3"]"#).contains { ["i6", "i3"].contains($0) })
        #expect(try ids(#"\#(base),"exclude":["i6"]"#)[3...4] == ["i3", "i9"])
        let war = try ids(#""variant":"control","exclude_seen":false,"placement":"war","n":3"#)
        #expect(war[1] == "i5" && !war.contains("i0"))
        let given = try ids(
            #"\#(base),"candidates":[{"item_id":"i1"},{"item_id":"i9"},{"item_id":"i2"}]"#)
        #expect(Set(given) == ["i1", "i9", "i2"])
        let own = try ids(#"\#(base),"candidates":[{"item_id":"i1"},{"item_id":"i6"}]"#)
        #expect(own == ["i6", "i1"])
    }

    @Test func `somebody new gets pins, caps and filter on the popular list`() throws {
        let page = try pipeline.answer(#"{"placement":"pins","n":6}"#)
        #expect(page.scoreKind == .popularity && page.items.map(\.itemID)[0] == "i6")
        let war = try pipeline.answer(#"{"placement":"war"}"#)
        #expect(war.items.allSatisfy { SmallBundle.genre(Int($0.itemID.dropFirst())!) == "war" })
        #expect(war.isShort && war.items.count == 13)
        let capped = try pipeline.answer(#"{"placement":"caps"}"#)
        #expect(capped.items.count == 6 && !capped.isShort)
    }

    @Test func `the placement's filter holds beside the request's own`() throws {
        let answer = try pipeline.answer(
            #"{\#(Self.known),"placement":"war","variant":"control","n":40,"exclude_seen":false,"filter":{"not":{"field":"year","gte":2000}}}"#
        )
        let rows = Set(answer.items.map { Int($0.itemID.dropFirst())! })
        #expect(rows == Set((0..<40).filter { $0 % 3 == 2 && !($0 >= 20 && $0 % 4 != 0) }))
        #expect(answer.isShort)
    }

    @Test func `boosts change the score and leave the model's value`() throws {
        let base = #""variant":"control","candidates":[\#(Self.candidates)]"#
        let plain = try pipeline.answer("{\(Self.known),\(base)}")
        let lifted = try pipeline.answer("{\(Self.known),\(base),\"placement\":\"lift\"}")
        let values = Dictionary(uniqueKeysWithValues: plain.items.map { ($0.itemID, $0.score) })
        for item in lifted.items {
            let row = Int(item.itemID.dropFirst())!
            let value = try #require(values[item.itemID])
            #expect(item.explanation?.value == value)
            let factor = SmallBundle.genre(row) == "war" ? 2.0 : 1
            #expect(item.score == value * factor + (row % 5 == 0 ? 100 : 0))
        }
        #expect(lifted.items.map(\.score) == lifted.items.map(\.score).sorted(by: >))
        #expect(lifted.items.prefix(8).allSatisfy { Int($0.itemID.dropFirst())! % 5 == 0 })
    }

    @Test func `caps hold on every page and a page that they shorten is not called short`() throws {
        for n in [1, 3, 5, 20] {
            let answer = try pipeline.answer(
                #"{\#(Self.known),"variant":"control","placement":"caps","n":\#(n)}"#)
            let rows = answer.items.map { Int($0.itemID.dropFirst())! }
            for genre in SmallBundle.genres { #expect(rows.count { SmallBundle.genre($0) == genre } <= 2) }
            #expect(rows.count { $0 % 5 != 0 } <= 3 && rows.count == min(n, 6) && !answer.isShort)
        }
        #expect(try ids(#""variant":"control","placement":"caps","n":40"#).count <= 6)
        let short = try pipeline.answer(
            #"{\#(Self.known),"placement":"caps","filter":{"field":"genres","in":["war"]}}"#)
        #expect(short.items.count == 2 && short.isShort)
    }

    @Test func `quotas choose the sources`() throws {
        let answer = try pipeline.answer("{\(Self.known),\"variant\":\"control\",\"placement\":\"popular\"}")
        #expect(answer.items.allSatisfy { $0.explanation?.sources == ["popular"] })
    }

    @Test func `weights count by task: request, arm, placement, bundle`() throws {
        let base = #""candidates":[\#(Self.candidates)]"#
        for (extra, view, like) in [
            (#""variant":"control""#, 1.0, 0.5),
            (#""variant":"control","placement":"likes""#, 0, 1), (#""variant":"likes""#, 0.25, 1),
            (#""variant":"likes","placement":"plain""#, 0.25, 0.5),
            (#""variant":"likes","weights":{"like":3}"#, 0.25, 3), (#""variant":"hidden""#, 1, 9),
        ] {
            for item in try pipeline.answer("{\(Self.known),\(base),\(extra)}").items {
                let p = try #require(item.explanation?.probabilities.map(\.probability))
                #expect(abs(item.score - (view * p[0] + like * p[1])) < 1e-12, "\(extra)")
            }
        }
    }

    @Test func `the request's diversity wins over the placement's`() throws {
        let base = #""variant":"control","weights":{"view":1,"like":0.5}"#
        let plain = try ids(base)
        #expect(try ids(#"\#(base),"placement":"likes","diversity":0"#) == plain)
        #expect(try ids(#"\#(base),"placement":"likes""#) == ids(#"\#(base),"diversity":0.5"#))
        #expect(try ids(#"\#(base),"placement":"likes""#) != plain)
    }

    // MARK: - Arms

    @Test func `an arm is a stable hash of salt and user`() throws {
        // Computed outside: (sha256("salt-1" NUL user)[:8] · 100) >> 64.
        for (user, place) in Self.places {
            let arm = place < 30 ? "control" : place < 90 ? "likes" : "plain"
            let answer = try pipeline.answer(#"{"user_id":"\#(user)"}"#)
            #expect(answer.variant == arm && answer.placement == (arm == "control" ? nil : arm))
        }
    }
    static let places = [("u1", 79), ("u4", 16), ("ü", 70), ("u6", 19), ("x1", 93), ("x3", 30)]

    @Test func `shares are kept over many users and arms do not follow another experiment's`() throws {
        let experiment = try #require(snapshot.manifest.experiment)
        let other = ExperimentConfiguration(salt: "salt-2", variants: experiment.variants)
        var counts: [String: Int] = [:]
        var both = 0
        for index in 0..<20_000 {
            let name = try #require(experiment.variant(of: "user-\(index)")).name
            counts[name, default: 0] += 1
            if name == "likes", other.variant(of: "user-\(index)")?.name == "likes" { both += 1 }
        }
        for (name, share) in [("control", 0.3), ("likes", 0.6), ("plain", 0.1)] {
            #expect(abs(Double(counts[name] ?? 0) / 20_000 - share) < 0.015)
        }
        #expect(counts["hidden"] == nil && abs(Double(both) / 20_000 - 0.36) < 0.015)
    }

    @Test func `nobody without a user is in an experiment and every arm can be named`() throws {
        #expect(try pipeline.answer("{}").variant == nil)
        #expect(try pipeline.answer(#"{"session":[{"item_id":"i1"}]}"#).variant == nil)
        #expect(try pipeline.answer(#"{"variant":"hidden"}"#).variant == "hidden")
        #expect(problem(#"{"variant":"other"}"#)?.kind == .unknownVariant)
        #expect(problem(#"{"variant":"other"}"#)?.errors.first?.pointer == "/variant")
        // Without an experiment the name is the caller's own.
        let plain = try RecommendPipeline(try SmallBundle.loaded())
        #expect(try plain.answer(#"{"variant":"other"}"#).variant == "other")
    }

    @Test func `an unknown placement is refused wherever it is named`() throws {
        for name in ["none", "PLAIN", "plain "] {
            let problem = problem(#"{"placement":"\#(name)"}"#)
            #expect(problem?.kind == .unknownPlacement && problem?.errors.first?.pointer == "/placement")
        }
        #expect(throws: Problem.self) {
            try pipeline.similar(try SimilarRequest(itemID: "i5", query: "placement=none"))
        }
        #expect(throws: Problem.self) { try SimilarRequest(itemID: "i5", query: "placement=a&placement=b") }
    }

    // MARK: - Similar items

    @Test func `similar items take filter, pins, boosts and caps`() throws {
        func similar(_ query: String) throws -> SimilarItems {
            try pipeline.similar(try SimilarRequest(itemID: "i5", query: query))
        }
        let plain = try similar("n=39").items
        let pins = try similar("n=10&placement=pins")
        #expect(
            pins.placement == "pins" && pins.items.count == 10 && Set(pins.items.map(\.itemID)).count == 10)
        #expect(pins.items[0].itemID == "i6" && pins.items[3...4].map(\.itemID) == ["i3", "i9"])
        let scores = Dictionary(uniqueKeysWithValues: plain.map { ($0.itemID, $0.score) })
        for item in pins.items { #expect(abs(item.score - (scores[item.itemID] ?? 9)) < 1e-6) }
        // The item itself is pinned by "war" and yet left out.
        let war = try similar("n=39&placement=war")
        #expect(war.items.count == 12 && war.isShort && !war.items.contains { $0.itemID == "i5" })
        let capped = try similar("n=10&placement=caps")
        #expect((4...6).contains(capped.items.count) && !capped.isShort)
        for genre in SmallBundle.genres {
            #expect(capped.items.count { SmallBundle.genre(Int($0.itemID.dropFirst())!) == genre } <= 2)
        }
        // What is added is in units of the value model; the factor counts.
        let lifted = try similar("n=39&placement=lift").items
        for item in lifted {
            let row = Int(item.itemID.dropFirst())!, score = try #require(scores[item.itemID])
            let factor = SmallBundle.genre(row) == "war" ? 2.0 : 1
            #expect(abs(item.score - (score < 0 ? score / factor : score * factor)) < 1e-6)
        }
    }
}

// MARK: - The page alone

@Suite struct PlacementPageTests {
    /// Random rules over random scores against the page written down step by step.
    @Test func `the page is what its rules say, one item at a time`() throws {
        let snapshot = try SmallBundle.loaded()
        var random = SeededRandom(71)
        for _ in 0..<300 {
            let rows = Array(0..<SmallBundle.items).shuffled(using: &random)
            let scores = rows.map { _ in Double(Int.random(in: -5...5, using: &random)) }
            let count = Int.random(in: 0...30, using: &random)
            var configuration = PlacementConfiguration(name: "p")
            configuration.pins = (0..<Int.random(in: 0...4, using: &random)).map { index in
                .init(position: 1 + 7 * index, itemIDs: ["i\(rows[index * 3])"])
            }
            let maximum = Int.random(in: 1...6, using: &random)
            if Bool.random(using: &random) {
                configuration.caps = [.init(attribute: "genres", maximum: maximum)]
            }
            let placement = try Placement(configuration, snapshot.catalog)
            var slate = Slate()
            slate.candidates = rows.map { Candidate(row: $0, sources: .popular) }
            slate.use(scores, as: .value)
            slate.order(
                count, diversity: 0, snapshot.ranking.itemVectors.view, pins: placement.pins,
                caps: CapCounter(placement, snapshot.catalog))
            let page = slate.page.map { rows[$0] }

            let shown = placement.pins.filter { $0.position < count }
            var genres: [String: Int] = [:]
            for pin in shown { genres[SmallBundle.genre(pin.row), default: 0] += 1 }
            var ranked: [Int] = []
            for index in rows.indices.sorted(by: { (-scores[$0], $0) < (-scores[$1], $1) }) {
                let row = rows[index], genre = SmallBundle.genre(row)
                if shown.contains(where: { $0.row == row }) || ranked.count == count - shown.count {
                    continue
                }
                if !configuration.caps.isEmpty, genres[genre, default: 0] >= maximum { continue }
                genres[genre, default: 0] += 1
                ranked.append(row)
            }
            var expected: [Int] = []
            for pin in shown {
                while expected.count < pin.position, !ranked.isEmpty { expected.append(ranked.removeFirst()) }
                expected.append(pin.row)
            }
            #expect(page == expected + ranked)
        }
    }

    @Test func `caps hold under diversity, which fills the page all the same`() throws {
        let snapshot = try SmallBundle.loaded()
        var configuration = PlacementConfiguration(name: "p")
        configuration.caps = [.init(attribute: "genres", maximum: 3)]
        let placement = try Placement(configuration, snapshot.catalog)
        for diversity in [0, 0.3, 1] {
            var slate = Slate()
            slate.candidates = (0..<SmallBundle.items).map { Candidate(row: $0, sources: .popular) }
            slate.use((0..<SmallBundle.items).map { Double($0 % 7) }, as: .value)
            slate.order(
                9, diversity: diversity, snapshot.ranking.itemVectors.view,
                caps: CapCounter(placement, snapshot.catalog))
            #expect(slate.page.count == 9 && Set(slate.page).count == 9)
            for genre in SmallBundle.genres {
                #expect(slate.page.count { SmallBundle.genre($0) == genre } == 3)
            }
        }
    }

    @Test func `a factor above 1 lifts and one below buries, also a negative score`() throws {
        let catalog = try SmallBundle.loaded().catalog
        func boosted(_ score: Double, _ factor: Double, _ add: Double, _ kind: ScoreKind) throws -> Double {
            var configuration = PlacementConfiguration(name: "p")
            configuration.boosts = [.init(filter: .all([]), factor: factor, add: add)]
            return try Placement(configuration, catalog).boosted(score, row: 0, kind: kind)
        }
        #expect(try boosted(3, 2, 1, .value) == 7 && boosted(-3, 2, 1, .value) == -0.5)
        #expect(try boosted(3, 0.5, 0, .value) == 1.5 && boosted(-3, 0.5, 0, .value) == -6)
        for kind in [ScoreKind.sequence, .retrieval, .popularity, .similarity] {
            #expect(try boosted(3, 2, 1, kind) == 6 && boosted(-3, 2, 1, kind) == -1.5)
        }
    }

    @Test func `an item with several values counts for each, one without a value for none`() throws {
        var bundle = SmallBundle()
        // Row 0 is of all genres, row 1 of none.
        bundle.tensors["item.attr.genres.offsets"] = .unsigned64([0, 4, 4] + (5...42).map(UInt64.init))
        bundle.tensors["item.attr.genres.values"] = .unsigned32(
            [0, 1, 2, 2] + (2..<40).map { UInt32($0 % 3) })
        let catalog = try bundle.snapshot().catalog
        var configuration = PlacementConfiguration(name: "p")
        configuration.caps = [.init(attribute: "genres", maximum: 1)]
        var caps = try #require(CapCounter(try Placement(configuration, catalog), catalog))
        let all = ([1, 0, 1] + Array(2..<40)).map { caps.admit($0) }
        #expect(all == [true, true, true] + Array(repeating: false, count: 38))
        var others = try #require(CapCounter(try Placement(configuration, catalog), catalog))
        #expect([2, 0, 3, 5].map { others.admit($0) } == [true, false, true, false])
    }
}
