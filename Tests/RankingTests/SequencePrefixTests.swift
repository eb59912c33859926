import Artifacts
import Features
import RecCore
import TestSupport
import Testing

@testable import Kernels
@testable import Ranking

@Suite struct SequencePrefixTests {
    /// A model, and what is common to all ways of computing a history with it.
    private struct Case {
        let model: SequenceModel
        let hasTime: Bool
        let isSASRec: Bool
        let events: [HistoryEvent]
        let now: Double

        /// An HSTU model for seeds 0…15, a SASRec model after them; histories of up to N events.
        init(_ seed: Int, _ random: inout SeededRandom) throws {
            isSASRec = seed >= 16
            hasTime = !isSASRec && seed & 1 == 0
            let configuration: SequenceConfiguration
            let tensors: TensorSet
            let items: Int
            if isSASRec {
                let variants = SequenceConfiguration.SASRecVariant.allCases
                let twin = SASRecTwin.random(
                    UInt64(seed), variants[seed % variants.count], attendsPads: seed & 1 == 0)
                (configuration, tensors, items) = (twin.configuration, twin.tensors, SASRecTwin.items)
            } else {
                let twin = HSTUTwin.random(UInt64(seed), position: seed & 2 == 0, time: hasTime)
                (configuration, tensors, items) = (twin.configuration, twin.tensors, twin.items)
            }
            let bundle = try tensors.bundle()
            model = try SequenceModel(
                configuration, itemCount: items, tensors: bundle, tables: SharedTables(bundle))
            events = randomHistory(
                Int.random(in: 1...configuration.maxEvents, using: &random), items: items,
                actions: isSASRec ? 1 : 3, &random)
            now = events.last!.time! + 100
        }

        func window(_ count: Int) -> HistoryWindow {
            var window = model.makeWindow()
            window.fill(history: Array(events.prefix(count)))
            return window
        }

        /// Rows of a history of `count` events that a longer one may take over: with a time bias, the last
        /// one held the time of the question.
        func valid(_ count: Int) -> Int { hasTime ? max(0, count - 1) : count }

        /// The last row, and scores of a few candidates.
        func answer(_ prefix: SequencePrefix, microbatch: Int) throws -> [Double] {
            let last = doubles(try #require(prefix.lastRow))
            guard model.configuration.hasTarget else { return last }
            let vectors = MutableMatrix(rows: 9, columns: model.dimension)
            let scores = MutableMatrix(rows: 9, columns: 1)
            SequenceScorer(model, microbatch: microbatch).score(
                Array(3..<12)[...], prefix, now: now, vectors: vectors.view, scores: scores.view)
            return last + doubles(vectors.view) + doubles(scores.view)
        }

        func whole() -> SequencePrefix {
            let prefix = model.makePrefix()
            SequenceScorer(model).prefill(window(events.count), now: now, into: prefix)
            return prefix
        }
    }

    private func bytes(_ block: KeyValueBlock) -> [UInt32] {
        (0..<block.layout.floatCount).map { unsafe block.base[$0].bitPattern }
    }

    private func isSame(_ a: some Collection<KeyValueBlock>, _ b: some Collection<KeyValueBlock>) -> Bool {
        a.map(ObjectIdentifier.init) == b.map(ObjectIdentifier.init)
    }

    @Test(arguments: 0..<24)
    func `a history computed on top of shared blocks equals the one computed at once, and leaves them alone`(
        _ seed: Int
    ) throws {
        var random = SeededRandom(UInt64(700 + seed))
        let c = try Case(seed, &random)
        let expected = try c.answer(c.whole(), microbatch: 7)
        for _ in 0..<4 {
            // SASRec's positions count from the end: only a history of the same length can be shared.
            let earlier = c.isSASRec ? c.events.count : Int.random(in: 0...c.events.count, using: &random)
            let first = c.model.makePrefix()
            var given: [KeyValueBlock] = []
            SequenceScorer(c.model, historyRows: 5).prefill(
                c.window(earlier), now: c.hasTime ? 0 : c.now, into: first
            ) {
                given.append(KeyValueBlock(c.model.layout))
                return given.last
            }
            #expect(given.count == KeyValueBlock.count(events: earlier))
            #expect(isSame(given, first.blocks))
            let before = given.map(bytes)
            let most = min(c.valid(earlier), c.events.count - 1)
            let reused = Int.random(in: 0...max(0, most), using: &random)
            for microbatch in [1, 7, 64] {
                let prefix = c.model.makePrefix()
                prefix.adopt(given, rows: reused)
                #expect(prefix.count == reused && prefix.lastRow == nil)
                SequenceScorer(c.model, historyRows: microbatch).prefill(
                    c.window(c.events.count), now: c.now, reusing: reused, into: prefix)
                expectSame(try c.answer(prefix, microbatch: microbatch), expected)
                #expect((prefix.rows == nil) == (reused > 0))
                let kept = reused / KeyValueBlock.events
                #expect(isSame(prefix.blocks.prefix(kept), given.prefix(kept)))
                #expect(
                    prefix.blocks.dropFirst(kept).allSatisfy { block in !given.contains { $0 === block } })
            }
            #expect(given.map(bytes) == before)
        }
    }

    @Test(arguments: 0..<16)
    func `a session on top of a history changes no block of the history, and nothing in its own rows`(
        _ seed: Int
    ) throws {
        var random = SeededRandom(UInt64(800 + seed))
        let c = try Case(seed, &random)
        let expected = try c.answer(c.whole(), microbatch: 7)
        let prefix = c.model.makePrefix()
        for limit in [0, 1, 100] {
            let base = Int.random(in: 0..<c.events.count, using: &random)
            // The history's own last row knows what comes next.
            let ahead = c.window(base)
            let next = c.events[base].time!
            var given: [KeyValueBlock] = []
            prefix.reset()
            let scorer = SequenceScorer(c.model)
            scorer.prefill(ahead, now: next, into: prefix) {
                guard given.count < limit else { return nil }
                given.append(KeyValueBlock(c.model.layout))
                return given.last
            }
            let before = given.map(bytes)
            #expect(isSame(prefix.blocks.prefix(given.count), given))
            scorer.prefill(c.window(c.events.count), now: c.now, reusing: base, into: prefix)
            expectSame(try c.answer(prefix, microbatch: 64), expected)
            expectSame(doubles(try #require(prefix.rows)), doubles(try #require(c.whole().rows)))
            #expect(given.map(bytes) == before)
            // Nothing new: the prefix goes on as it is.
            scorer.prefill(c.window(c.events.count), now: c.now, reusing: c.events.count, into: prefix)
            expectSame(try c.answer(prefix, microbatch: 1), expected)
        }
    }

    @Test(arguments: 0..<24)
    func `rows that nobody reads after the last layer are left out, and nothing else changes`(_ seed: Int)
        throws
    {
        var random = SeededRandom(UInt64(900 + seed))
        let c = try Case(seed, &random)
        let whole = c.whole()
        let expected = try c.answer(whole, microbatch: 7)
        let count = c.events.count
        for historyRows in [1, 5, 16, 200] {
            let scorer = SequenceScorer(c.model, historyRows: historyRows)
            let prefix = c.model.makePrefix()
            scorer.prefill(c.window(count), now: c.now, outputs: .newest, into: prefix)
            expectSame(try c.answer(prefix, microbatch: 7), expected)
            #expect((prefix.rows == nil) == (count > 1))
            #expect(
                prefix.blocks.indices.allSatisfy { bytes(prefix.blocks[$0]) == bytes(whole.blocks[$0]) })
            scorer.prefill(c.window(count), now: c.now, outputs: .none, into: prefix)
            #expect(prefix.lastRow == nil && prefix.rows == nil)
            #expect(
                prefix.blocks.indices.allSatisfy { bytes(prefix.blocks[$0]) == bytes(whole.blocks[$0]) })
            // Wanted after all: the newest row on top of keys and values alone.
            scorer.prefill(c.window(count), now: c.now, reusing: count - 1, outputs: .newest, into: prefix)
            expectSame(try c.answer(prefix, microbatch: 64), expected)
        }
    }

    @Test func `an adopted newest row is not the newest once the history grows or shrinks`() throws {
        var random = SeededRandom(1)
        let c = try Case(1, &random)
        let count = c.events.count
        try #require(count > 2)
        let whole = c.whole()
        let last = Matrix(rows: 1, columns: c.model.dimension, values: try #require(whole.lastRow).copy())
        for (adopted, asked) in [(count - 1, count), (count, count - 1)] {
            let prefix = c.model.makePrefix()
            prefix.adopt(whole.blocks, rows: adopted, lastRow: last)
            #expect(prefix.lastRow != nil)
            SequenceScorer(c.model).prefill(
                c.window(asked), now: c.now, reusing: min(adopted, asked), outputs: .none, into: prefix)
            #expect(prefix.lastRow == nil)
        }
    }

    @Test func `a prefix that is reset or adopts lets go of what it held`() throws {
        var random = SeededRandom(1)
        let c = try Case(1, &random)
        let prefix = c.whole()
        prefix.reset()
        #expect(prefix.count == 0 && prefix.blocks.isEmpty && prefix.lastRow == nil)
        prefix.adopt([], rows: 0)
        #expect(prefix.count == 0 && prefix.blocks.isEmpty && prefix.lastRow == nil)
    }
}
