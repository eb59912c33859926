import Artifacts
import Features
import Kernels
import RecCore
import TestSupport
import Testing

@testable import Ranking

@Suite struct HSTUTests {
    /// A twin, the model made of its tensors, and what scoring gives.
    struct Case {
        let twin: HSTUTwin
        let model: SequenceModel

        init(
            _ seed: UInt64, position: Bool = true, time: Bool = true, bias: Bool = true, actions: Bool = true
        ) throws {
            twin = HSTUTwin.random(seed, position: position, time: time, bias: bias, actions: actions)
            let tensors = try twin.tensors.bundle()
            model = try SequenceModel(
                twin.configuration, itemCount: twin.items, tensors: tensors, tables: SharedTables(tensors))
            try tensors.refuseUnread()
        }

        func prefix(_ history: [HistoryEvent], offset: Int = 0, now: Double) -> SequencePrefix {
            var window = model.makeWindow()
            window.fill(history: history, offset: offset)
            let prefix = model.makePrefix()
            SequenceScorer(model, historyRows: 9).prefill(window, now: now, into: prefix)
            return prefix
        }

        /// Vectors and scores, row after row.
        func score(
            _ candidates: [Int], _ prefix: SequencePrefix, now: Double, microbatch: Int
        ) -> (vectors: [Double], scores: [Double]) {
            let vectors = MutableMatrix(rows: candidates.count, columns: model.dimension)
            let scores = MutableMatrix(rows: candidates.count, columns: 1)
            let scorer = SequenceScorer(model, microbatch: microbatch)
            scorer.score(candidates[...], prefix, now: now, vectors: vectors.view, scores: scores.view)
            return (doubles(vectors.view), doubles(scores.view))
        }
    }

    @Test(arguments: 0..<24)
    func `history rows equal the twin for random shapes, with and without biases, actions and times`(
        _ seed: Int
    ) throws {
        let c = try Case(
            UInt64(seed), position: seed & 1 == 0, time: seed & 2 == 0, bias: seed & 4 == 0,
            actions: seed & 8 == 0)
        var random = SeededRandom(UInt64(100 + seed))
        for count in [1, 2, c.twin.configuration.maxEvents, c.twin.configuration.maxEvents + 7, 90] {
            let history = randomHistory(
                count, items: c.twin.items, actions: 3, jumpy: seed & 1 == 0, missingTimes: seed & 2 == 0,
                &random)
            let now = 1.61e9
            let prefix = c.prefix(history, now: now)
            let expected = c.twin.rows(c.twin.window(history, offset: 0), now: now)
            #expect(prefix.count == expected.count)
            expectTwin(doubles(prefix.rows!), expected.flatMap(\.self))
            let dots = MutableMatrix(rows: c.twin.items, columns: 1)
            SequenceScorer(c.model).dotScores(Array(0..<c.twin.items)[...], prefix, into: dots.view)
            let expectedDots = (0..<c.twin.items).map { c.twin.dot(expected.last!, candidate: $0) }
            expectTwin(doubles(dots.view), expectedDots)
        }
    }

    @Test(arguments: 0..<16)
    func `a candidate scores as if it alone followed the history`(_ seed: Int) throws {
        let c = try Case(UInt64(seed), position: seed & 1 == 0, time: seed & 2 == 0, bias: seed & 4 == 0)
        var random = SeededRandom(UInt64(200 + seed))
        let history = randomHistory(
            Int.random(in: 1...120, using: &random), items: c.twin.items, actions: 3, jumpy: seed & 8 == 0,
            &random)
        let now = history.last!.time! + 3600
        let candidates = (0..<9).map { _ in Int.random(in: 0..<c.twin.items, using: &random) }
        let found = c.score(candidates, c.prefix(history, now: now), now: now, microbatch: 4)
        let events = c.twin.window(history, offset: 0)
        let expected = candidates.map { c.twin.target(events, now: now, candidate: $0) }
        expectTwin(found.vectors, expected.flatMap(\.vector))
        expectTwin(found.scores, expected.map(\.score))
    }

    @Test(arguments: [true, false])
    func `neither microbatch size nor candidate order nor company changes a score`(_ time: Bool) throws {
        for seed in 0..<6 {
            let c = try Case(UInt64(300 + seed), time: time)
            var random = SeededRandom(UInt64(400 + seed))
            let history = randomHistory(
                Int.random(in: 1...200, using: &random), items: c.twin.items, actions: 3, &random)
            let now = 1.62e9
            let prefix = c.prefix(history, now: now)
            let candidates = (0..<75).map { _ in Int.random(in: 0..<c.twin.items, using: &random) }
            let whole = c.score(candidates, prefix, now: now, microbatch: candidates.count)
            for size in [1, 2, 7, 32] {
                let found = c.score(candidates, prefix, now: now, microbatch: size)
                expectSame(found.scores, whole.scores)
                expectSame(found.vectors, whole.vectors)
            }
            let order = Array(candidates.indices).shuffled(using: &random)
            let shuffled = c.score(order.map { candidates[$0] }, prefix, now: now, microbatch: 7)
            expectSame(shuffled.scores, order.map { whole.scores[$0] })
            let alone = candidates.map { c.score([$0], prefix, now: now, microbatch: 32).scores[0] }
            expectSame(alone, whole.scores)
        }
    }

    @Test func `scoring candidates leaves the history's rows alone`() throws {
        let c = try Case(7)
        var random = SeededRandom(8)
        let prefix = c.prefix(randomHistory(50, items: c.twin.items, actions: 3, &random), now: 1.7e9)
        let before = doubles(prefix.rows!)
        _ = c.score(Array(0..<20), prefix, now: 1.7e9, microbatch: 8)
        #expect(doubles(prefix.rows!) == before)
        #expect(prefix.lastRow.map { doubles($0) } == Array(before.suffix(c.model.dimension)))
    }

    @Test func `rows that are still valid can be reused when the history grows`() throws {
        for (seed, time) in [(11, true), (12, false)] {
            let c = try Case(UInt64(seed), time: time)
            var random = SeededRandom(9)
            let all = randomHistory(c.twin.configuration.maxEvents, items: c.twin.items, actions: 3, &random)
            let earlier = Array(all.dropLast(2))
            let prefix = c.prefix(earlier, now: 1.65e9)
            var window = c.model.makeWindow()
            window.fill(history: all)
            // With a time bias the last row held the time of the question.
            let valid = time ? earlier.count - 1 : earlier.count
            SequenceScorer(c.model).prefill(window, now: 1.66e9, reusing: valid, into: prefix)
            let whole = c.prefix(all, now: 1.66e9)
            expectSame(doubles(prefix.rows!), doubles(whole.rows!))
            expectSame(
                c.score([1, 2, 3], prefix, now: 1.66e9, microbatch: 2).scores,
                c.score([1, 2, 3], whole, now: 1.66e9, microbatch: 2).scores)
        }
    }

    @Test func `an empty history gives zeros, and an unknown action index is the unknown action`() throws {
        let c = try Case(13)
        let empty = c.prefix([], now: 5)
        #expect(empty.lastRow == nil)
        let found = c.score([1, 2], empty, now: 5, microbatch: 2)
        #expect(found.scores == [0, 0] && found.vectors.allSatisfy { $0 == 0 })
        let strange = c.prefix(
            [HistoryEvent(row: 1, action: 77, time: 1), HistoryEvent(row: 2, action: -1, time: 2)], now: 5)
        let plain = c.prefix([HistoryEvent(row: 1, time: 1), HistoryEvent(row: 2, time: 2)], now: 5)
        #expect(doubles(strange.rows!) == doubles(plain.rows!))
    }

    @Test func `a missing or misshapen tensor is named`() throws {
        let twin = HSTUTwin.random(14, position: true, time: true)
        for name in twin.tensors.entries.keys.sorted() where !name.contains("uvqk.bias") {
            var broken = TensorSet()
            for (other, entry) in twin.tensors.entries {
                broken.set(
                    other, other == name ? [entry.values.count + 1] : entry.shape,
                    other == name ? entry.values + [1] : entry.values)
            }
            let tensors = try broken.bundle()
            let error = #expect(throws: BundleError.self) {
                try SequenceModel(
                    twin.configuration, itemCount: twin.items, tensors: tensors, tables: SharedTables(tensors)
                )
            }
            #expect(error?.tensor == name)
        }
    }
}
