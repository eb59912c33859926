import Kernels
import RecCore
import Retrieval
import TestSupport
import Testing
import Threading
import UserState

@testable import RecServer

/// What events make popular, against a twin that keeps every event and sorts everything.
@Suite struct PopularityTests {
    struct Twin {
        let halfLife: Double
        var events: [(item: String, time: Double, value: String?)] = []

        func counts(value: String?, now: Double) -> [String: Double] {
            var counts: [String: Double] = [:]
            for event in events where value == nil || event.value == value {
                counts[event.item, default: 0] += power(2, (min(event.time, now) - now) / halfLife)
            }
            return counts
        }

        /// Every row with its popularity for users of `value`.
        func scores(_ catalog: ItemCatalog, value: String?, now: Double) -> [Double] {
            func shares(_ value: String?) -> [Double] {
                let counts = counts(value: value, now: now)
                let rows = (0..<catalog.count).map { counts[catalog.id($0)] ?? 0 }
                return rows.map { $0 / ((rows.max() ?? 0) + CountedPopularity.damping) }
            }
            let (all, own) = (shares(nil), value.map(shares))
            return (0..<catalog.count).map { row in
                Double(SmallBundle.popularity(row)) + 39 * all[row] + 2 * 39 * (own?[row] ?? 0)
            }
        }
    }

    static func isNear(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-9 * max(1, abs(b)) }

    @Test(arguments: [1, 2, 3, 4])
    func `counts are those of a twin that looks at every event`(seed: UInt64) throws {
        var random = SeededRandom(seed)
        let catalog = try SmallBundle.loaded().catalog
        let halfLives: [Double] = [10, 3600, 604_800]
        let halfLife = halfLives.randomElement(using: &random) ?? 1
        var counter = PopularityCounter(halfLife: halfLife)
        var twin = Twin(halfLife: halfLife)
        var now = SmallBundle.now
        for step in 0..<3000 {
            // Also far apart, so that the landmark moves.
            now += Double.random(in: 0..<halfLife / 10, using: &random) * (step % 500 == 0 ? 6000 : 1)
            if Int.random(in: 0..<10, using: &random) == 0, !twin.events.isEmpty {
                let gone = twin.events.remove(at: Int.random(in: 0..<twin.events.count, using: &random))
                counter.count(gone.item, at: gone.time, value: gone.value, now: now, isRemoval: true)
            } else {
                let numbers = (0..<2).map { _ in Int.random(in: 0..<60, using: &random) }
                let item = "i\(numbers.min() ?? 0)"
                let time = now - Double.random(in: 0..<halfLife * 3, using: &random)
                let value = ["DE", "FR", nil].randomElement(using: &random) ?? nil
                counter.count(item, at: time, value: value, now: now)
                twin.events.append((item, time, value))
            }
            guard step % 100 == 99 else { continue }
            let popularity = CountedPopularity(counter, catalog, now: now)
            for value in [nil, "DE", "FR", "??"] as [String?] {
                let expected = twin.scores(catalog, value: value == "??" ? nil : value, now: now)
                let ours = popularity.popularity(of: value)
                // What counts below 1/1024 are left out for.
                let tolerance = 39.0 * 3 / 1024 / 100 + 1e-6
                for row in 0..<catalog.count {
                    let difference = abs(ours.score(row, in: catalog) - expected[row])
                    #expect(difference < tolerance)
                }
                var order: [Int] = []
                ours.walk(catalog) { row in
                    order.append(Int(row))
                    return true
                }
                #expect(Set(order).count == catalog.count && order.count == catalog.count)
                let walked = order.map { ours.score($0, in: catalog) }
                #expect(zip(walked, walked.dropFirst()).allSatisfy { $0 >= $1 })
                let isSorted = zip(order, order.dropFirst()).allSatisfy { a, b in
                    ours.score(a, in: catalog) > ours.score(b, in: catalog) || a < b
                }
                #expect(isSorted)
            }
        }
    }

    @Test func `taking every event away leaves nothing, and old ones come to nothing`() {
        var counter = PopularityCounter(halfLife: 100)
        for time in 0..<50 { counter.count("a", at: Double(time), value: "DE", now: 50) }
        var expected = 0.0
        for time in 0..<50 { expected += power(2, Double(time - 50) / 100) }
        #expect(Self.isNear(counter.counts(now: 50).first?.count ?? 0, expected))
        #expect(counter.counts(now: 5000).isEmpty)
        for time in 0..<50 { counter.count("a", at: Double(time), value: "DE", now: 50, isRemoval: true) }
        #expect(counter.itemCount == 0 && counter.counts(value: "DE", now: 50).isEmpty)
        // One that is not there any more.
        counter.count("b", at: 10, value: "FR", now: 50, isRemoval: true)
        #expect(counter.counts(value: "FR", now: 50).isEmpty)
    }

    @Test func `beyond the maximum the lighter half is forgotten`() {
        var table = PopularityCounter.Table(maximum: 100)
        for item in 0..<101 { table.add(Double(item + 1), to: "\(item)") }
        #expect(table.weights.count == 50 && table.weights["100"] == 101 && table.weights["50"] == nil)
        for _ in 0..<2 { for item in 0..<1000 { table.add(1, to: "x\(item)") } }
        #expect(table.weights.count <= 100)
    }

    @Test func `without events nothing is another answer than before`() throws {
        let snapshot = try SmallBundle.loaded()
        let settings = PipelineSettings(try Configuration())
        let with = RecommendPipeline(snapshot, settings, Metrics(), counted: Lock(CountedPopularity()))
        let without = RecommendPipeline(snapshot, settings, Metrics())
        for body in ["{}", #"{"user_id":"u5","now":5}"#, #"{"user":{"age":3},"now":5,"exclude":["i17"]}"#] {
            let answers = try [with, without].map { try $0.answer(body) }
            #expect(answers[0].items.map(\.itemID) == answers[1].items.map(\.itemID))
            #expect(answers[0].items.map(\.score) == answers[1].items.map(\.score))
        }
    }

    @Test func `a cold answer shows what is popular with users of the same value first`() throws {
        let snapshot = try SmallBundle.loaded()
        let settings = PipelineSettings(try Configuration(arguments: ["--popularity-by", "country"]))
        let counted = Lock(CountedPopularity())
        let pipeline = RecommendPipeline(snapshot, settings, Metrics(), counted: counted)
        let now = Double(WallClock.nanoseconds) / 1e9
        var counter = PopularityCounter(halfLife: 604_800)
        for _ in 0..<1000 { counter.count("i1", at: now, value: "FR", now: now) }
        for _ in 0..<500 { counter.count("i2", at: now, value: "DE", now: now) }
        counted.withLock { $0 = CountedPopularity(counter, snapshot.catalog, now: now) }
        func first(_ body: String) throws -> [String] {
            try pipeline.answer(body).items.prefix(2).map(\.itemID)
        }
        #expect(try first("{}").first == "i1")
        #expect(try first(#"{"user":{"country":"XX"},"deadline_ms":1}"#).isEmpty == false)
        let german = try pipeline.answer(#"{"user":{"country":"DE"},"query_items":[]}"#)
        #expect(!german.items.isEmpty)
        var order: [UInt32] = []
        counted.withLock { $0 }.popularity(of: "DE").walk(snapshot.catalog) { row in
            order.append(row)
            return order.count < 2
        }
        #expect(order.first == 2)
    }
}
