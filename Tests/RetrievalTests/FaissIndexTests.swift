import Artifacts
import Kernels
import Retrieval
import TestSupport
import Testing

@Suite struct FaissIndexTests {
    static let clusters = Clusters(items: 20_000, queries: 64, dimension: 16, centers: 200, seed: 21)
    static let configuration = IndexConfiguration(
        kind: .ivfpq, lists: 128, subquantizers: 8, bits: 8, probes: 24)
    static let settings = SearchSettings(probes: 24, shortlistFactor: 5)

    func reranked(_ metric: Metric) throws -> (index: RerankedIndex, codes: FaissIndex, table: VectorTable) {
        let table = VectorTable(Self.clusters.items, metric: metric)
        let codes = try FaissIndex(table, configuration: Self.configuration)
        return (try RerankedIndex(shortlist: codes, table: table), codes, table)
    }

    @Test(arguments: Metric.allCases) func `codes with re-ranking find nearly what the exact twin finds`(
        metric: Metric
    ) throws {
        let (index, _, table) = try reranked(metric)
        let exact = FlatIndex(table)
        let recall = try measureRecall(
            index: index, exact: exact, queries: Self.clusters.queries.view, k: 50, settings: Self.settings)
        #expect(recall > 0.93)
        // What is found carries the exact score.
        let found = NeighborBuffer(), truth = NeighborBuffer()
        for q in 0..<8 {
            let query = Self.clusters.queries.view.row(q)
            try index.search(query, k: 50, settings: Self.settings, into: found)
            try exact.search(query, k: 20_000, settings: Self.settings, into: truth)
            let scores = Dictionary(uniqueKeysWithValues: truth.all.map { ($0.row, $0.score) })
            for n in found.all { #expect(scores[n.row] == n.score) }
        }
    }

    @Test func `an index read back answers as the one written`() throws {
        let (index, codes, table) = try reranked(.l2)
        let again = try RerankedIndex(
            shortlist: FaissIndex(verified: codes.bytes(), metric: .l2, dimension: 16, count: 20_000),
            table: table)
        let a = NeighborBuffer(), b = NeighborBuffer()
        for q in 0..<20 {
            let query = Self.clusters.queries.view.row(q)
            try index.search(query, k: 30, settings: Self.settings, into: a)
            try again.search(query, k: 30, settings: Self.settings, into: b)
            #expect(a.all == b.all)
        }
    }

    @Test func `searches from four threads at once give what one thread gets`() async throws {
        let (index, _, _) = try reranked(.innerProduct)
        let queries = Self.clusters.queries
        let buffer = NeighborBuffer()
        let expected = try (0..<queries.rows).map { q in
            try index.search(queries.view.row(q), k: 40, settings: Self.settings, into: buffer)
            return buffer.all
        }
        let wrong = try await withThrowingTaskGroup(of: Int.self) { group in
            for thread in 0..<4 {
                group.addTask {
                    FaissIndex.setThreads(1)
                    let buffer = NeighborBuffer()
                    var wrong = 0
                    for round in 0..<4 {
                        for i in 0..<queries.rows {
                            let q = (i * 7 + thread * 13 + round) % queries.rows
                            try index.search(
                                queries.view.row(q), k: 40, settings: Self.settings, into: buffer)
                            if buffer.all != expected[q] { wrong += 1 }
                        }
                    }
                    return wrong
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(wrong == 0)
    }

    @Test func `parameters that FAISS or the shim refuse arrive as typed errors`() throws {
        let table = VectorTable(
            Matrix(rows: 300, columns: 6, values: (0..<1800).map { Float($0 % 97) }), metric: .l2)
        for configuration in [
            IndexConfiguration(kind: .ivfpq, lists: 0, subquantizers: 2, bits: 4),
            IndexConfiguration(kind: .ivfpq, lists: -3, subquantizers: 2, bits: 4),
            IndexConfiguration(kind: .ivfpq, lists: 4, subquantizers: 4, bits: 4),
            IndexConfiguration(kind: .ivfpq, lists: 4, subquantizers: 0, bits: 4),
            IndexConfiguration(kind: .ivfpq, lists: 4, subquantizers: 2, bits: 40),
            IndexConfiguration(kind: .ivfpq, lists: 400, subquantizers: 2, bits: 4),
            IndexConfiguration(kind: .ivfpq, lists: 4, subquantizers: 2, bits: 12),
        ] {
            let error = #expect(throws: RetrievalError.self) {
                try FaissIndex(table, configuration: configuration)
            }
            guard case .faiss(_, let reason) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(!reason.isEmpty)
        }
        let index = try FaissIndex(
            table, configuration: IndexConfiguration(kind: .ivfpq, lists: 4, subquantizers: 2, bits: 4))
        let buffer = NeighborBuffer()
        #expect(throws: RetrievalError.dimensionMismatch(expected: 6, found: 5)) {
            try index.search(
                Matrix(rows: 1, columns: 5, values: [1, 2, 3, 4, 5]).view, k: 1, settings: SearchSettings(),
                into: buffer)
        }
        let query = Matrix(rows: 1, columns: 6, values: [1, 2, 3, 4, 5, 6])
        #expect(throws: RetrievalError.faiss(call: "search", reason: "no lists to probe")) {
            try index.search(query.view, k: 1, settings: SearchSettings(probes: 0), into: buffer)
        }
        // Asking for more than is there pads with −1 inside and gives what there is.
        try index.search(query.view, k: 1_000_000, settings: SearchSettings(probes: 1), into: buffer)
        #expect(buffer.count > 0 && buffer.count < 300)
        try index.search(query.view, k: 1_000_000, settings: SearchSettings(probes: 99), into: buffer)
        #expect(buffer.count == 300)
    }

    @Test func `bytes that are not an index of these vectors are refused`() throws {
        let table = VectorTable(
            Matrix(rows: 300, columns: 6, values: (0..<1800).map { Float($0 % 97) }), metric: .l2)
        let flat = try FaissIndex(table, configuration: IndexConfiguration(kind: .flat))
        let bytes = try flat.bytes()
        _ = try FaissIndex(verified: bytes, metric: .l2, dimension: 6, count: 300)
        #expect(throws: RetrievalError.dimensionMismatch(expected: 7, found: 6)) {
            try FaissIndex(verified: bytes, metric: .l2, dimension: 7, count: 300)
        }
        #expect(throws: RetrievalError.invalidIndex(expected: "301 vectors", found: "300")) {
            try FaissIndex(verified: bytes, metric: .l2, dimension: 6, count: 301)
        }
        #expect(throws: RetrievalError.invalidIndex(expected: "metric cosine", found: "another metric")) {
            try FaissIndex(verified: bytes, metric: .cosine, dimension: 6, count: 300)
        }
        for bad in [[], Array("not an index".utf8), bytes + [0]] {
            let error = #expect(throws: RetrievalError.self) {
                try FaissIndex(verified: bad, metric: .l2, dimension: 6, count: 300)
            }
            guard case .faiss("read", _) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
    }

    @Test func `a build tells its progress to the end`() throws {
        let table = VectorTable(Self.clusters.items, metric: .cosine)
        var steps: [FaissIndex.Progress] = []
        _ = try FaissIndex(table, configuration: Self.configuration) { steps.append($0) }
        #expect(steps == [.training(vectors: 16_384), .adding(done: 20_000, of: 20_000)])
    }

    @Test func `a small catalogue is searched exactly, a large one by codes`() throws {
        let small = VectorTable(Matrix(rows: 2, columns: 1, values: [1, 2]), metric: .l2)
        #expect(try IndexBuilder.make(small, configuration: Self.configuration) is FlatIndex)
        let large = VectorTable(Self.clusters.items, metric: .l2)
        #expect(try IndexBuilder.make(large, configuration: IndexConfiguration(kind: .flat)) is FlatIndex)
        #expect(try IndexBuilder.make(large, configuration: Self.configuration) is RerankedIndex)
    }
}
