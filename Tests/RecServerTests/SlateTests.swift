import Kernels
import Ranking
import RecCore
import TestSupport
import Testing

@testable import RecServer

@Suite struct SlateTests {
    static func slate(_ scores: [Float]) -> Slate {
        var slate = Slate()
        slate.candidates = scores.enumerated().map {
            Candidate(row: $0, sources: .request, retrievalScore: $1)
        }
        slate.useRetrievalScores(areComputed: true)
        return slate
    }

    static func vectors(_ count: Int, seed: UInt64 = 3) -> Matrix {
        var random = SeededRandom(seed)
        return Matrix(
            rows: count, columns: 2,
            values: (0..<2 * count).map { _ in Float.random(in: -1...1, using: &random) })
    }

    @Test func `the page is the best scores, ties in retrieval's order`() {
        var slate = Self.slate([1, 3, 2, 3, 1])
        slate.order(10, diversity: 0, Self.vectors(5).view)
        #expect(slate.page == [1, 3, 2, 0, 4])
        slate.order(3, diversity: 0, Self.vectors(5).view)
        #expect(slate.page == [1, 3, 2])
        slate.order(0, diversity: 0.5, Self.vectors(5).view)
        #expect(slate.page.isEmpty)
    }

    @Test func `a candidate without a finite score is dropped and counted`() {
        var slate = Self.slate([1, .nan, 2, .infinity, -.infinity])
        slate.count(excluded: 4, filtered: 5)
        for diversity in [0, 0.7] {
            slate.order(10, diversity: diversity, Self.vectors(5).view)
            #expect(slate.page == [2, 0])
        }
        #expect(slate.droppedCount == 3)
        let trace = slate.trace
        #expect(trace.stages.map(\.name) == ["retrieved", "scored", "returned"])
        #expect(trace.stages.map(\.count) == [5, 2, 2])
        #expect(trace.filtered.map(\.reason) == ["excluded", "filter", "not_finite"])
        #expect(trace.filtered.map(\.count) == [4, 5, 3])
    }

    @Test func `scores of a skipped stage leave those before`() {
        var slate = Self.slate([1, 2])
        slate.use([], as: .value)
        #expect(slate.scoreKind == .retrieval && slate.scores == [1, 2])
        slate.use([nil, 0.5], as: .value)
        #expect(slate.scoreKind == .value && slate.scores == [nil, 0.5])
        #expect(slate.hasRetrievalScores)
    }

    @Test func `diversity moves a near copy behind something else`() {
        let vectors = Matrix(rows: 3, columns: 2, values: [1, 0, 1, 0.01, 0, 1])
        var slate = Self.slate([3, 2.9, 2])
        slate.order(3, diversity: 0, vectors.view)
        #expect(slate.page == [0, 1, 2])
        slate.order(3, diversity: 0.7, vectors.view)
        #expect(slate.page == [0, 2, 1])
    }

    @Test func `diversity fills 500 places from the best 2000, the rest follows by score`() {
        var random = SeededRandom(5)
        let count = 2300
        let scores = (0..<count).map { _ in Float(Int.random(in: 0..<400, using: &random)) }
        var plain = Self.slate(scores), slate = plain
        let vectors = Self.vectors(count)
        plain.order(count, diversity: 0, vectors.view)
        slate.order(2100, diversity: 0.6, vectors.view)
        #expect(slate.page.count == 2100 && Set(slate.page).count == 2100)
        let chosen = Set(slate.page.prefix(500))
        #expect(chosen.isSubset(of: plain.page.prefix(2000)))
        #expect(
            Array(slate.page.dropFirst(500)) == Array(plain.page.filter { !chosen.contains($0) }.prefix(1600))
        )
        #expect(Array(slate.page.prefix(500)) != Array(plain.page.prefix(500)))
    }
}
