import Artifacts
import Kernels
import Retrieval
import TestSupport
import Testing

/// The score in double precision by the definition.
func exactScore(_ metric: Metric, _ a: [Float], _ b: [Float]) -> Double {
    let x = a.map(Double.init), y = b.map(Double.init)
    func dot(_ u: [Double], _ v: [Double]) -> Double { zip(u, v).reduce(0) { $0 + $1.0 * $1.1 } }
    switch metric {
    case .innerProduct: return dot(x, y)
    case .cosine: return dot(x, y) / max(dot(x, x).squareRoot(), 1e-12) / max(dot(y, y).squareRoot(), 1e-12)
    case .l2: return -zip(x, y).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    }
}

@Suite struct FlatIndexTests {
    @Test(arguments: Metric.allCases) func `the exact index equals the triple loop`(metric: Metric) throws {
        var random = SeededRandom(11)
        let items = random.gaussians(2_500, 19), queries = random.gaussians(6, 19)
        let index = FlatIndex(VectorTable(items, metric: metric))
        let buffer = NeighborBuffer()
        let batch = try index.search(queries: queries.view, k: 40)
        for q in 0..<6 {
            let scores = (0..<2_500).map { exactScore(metric, queries.copyRow(q), items.copyRow($0)) }
            let best = scores.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }.prefix(40)
            for k in [0, 1, 7, 40] {
                try index.search(queries.view.row(q), k: k, settings: SearchSettings(), into: buffer)
                #expect(buffer.all.map(\.row) == Array(best.prefix(k)))
                for n in buffer.all { #expect(abs(Double(n.score) - scores[n.row]) < 1e-4) }
            }
            #expect(batch[q].map(\.row) == Array(best))
        }
        try index.search(queries.view.row(0), k: 9_999, settings: SearchSettings(), into: buffer)
        #expect(buffer.count == 2_500)
        #expect(Set(buffer.all.map(\.row)).count == 2_500)
    }

    @Test func `similarity by cosine in an inner product space ignores norms`() throws {
        let items = Matrix(rows: 4, columns: 2, values: [1, 0, 100, 100, 2, 0.1, 0, 3])
        let index = FlatIndex(VectorTable(items, metric: .innerProduct))
        let buffer = NeighborBuffer()
        let query = Matrix(rows: 1, columns: 2, values: [3, 0])
        try index.search(query.view, k: 4, settings: SearchSettings(), into: buffer)
        #expect(buffer.all.map(\.row) == [1, 2, 0, 3])
        try index.search(query.view, k: 4, settings: SearchSettings(bySimilarity: true), into: buffer)
        #expect(buffer.all.map(\.row) == [0, 2, 1, 3])
        #expect(abs(buffer[0].score - 1) < 1e-6)
    }

    @Test func `equal scores are ordered by row, and zero vectors and overflow give no NaN`() throws {
        let big = Float.greatestFiniteMagnitude
        let items = Matrix(rows: 5, columns: 2, values: [0, 0, 1, 1, -0.0, 0, 1, 1, big, -big])
        let buffer = NeighborBuffer()
        for metric in Metric.allCases {
            let index = FlatIndex(VectorTable(items, metric: metric))
            for values in [[Float(2), 2], [0, 0], [big, big]] {
                let query = Matrix(rows: 1, columns: 2, values: values)
                try index.search(query.view, k: 5, settings: SearchSettings(), into: buffer)
                #expect(buffer.all.allSatisfy { $0.score.isFinite })
                for (a, b) in zip(buffer.all, buffer.all.dropFirst()) {
                    #expect(a.score > b.score || (a.score == b.score && a.row < b.row))
                }
            }
        }
    }

    @Test func `a query of another width or with a NaN is a typed error`() throws {
        let index = FlatIndex(
            VectorTable(Matrix(rows: 2, columns: 3, values: [1, 2, 3, 4, 5, 6]), metric: .cosine))
        let buffer = NeighborBuffer()
        #expect(throws: RetrievalError.dimensionMismatch(expected: 3, found: 2)) {
            try index.search(
                Matrix(rows: 1, columns: 2, values: [1, 2]).view, k: 1, settings: SearchSettings(),
                into: buffer)
        }
        #expect(throws: RetrievalError.notFinite) {
            try index.search(
                Matrix(rows: 1, columns: 3, values: [1, .nan, 2]).view, k: 1, settings: SearchSettings(),
                into: buffer)
        }
    }

    @Test func `the mean of rows is the query of a basket`() {
        let table = VectorTable(
            Matrix(rows: 3, columns: 2, values: [1, 2, 3, 6, 9, 9]), metric: .innerProduct)
        let mean = MutableMatrix(rows: 1, columns: 2)
        table.mean(of: [0, 1], into: mean.view)
        #expect(mean.copyRow(0) == [2, 4])
        table.mean(of: [], into: mean.view)
        #expect(mean.copyRow(0) == [0, 0])
    }
}
