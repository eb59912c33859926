import Kernels
import TestSupport
import Testing

extension KernelTests {
    @Test func `scores of gathered rows equal the slow twin on every instruction set`() {
        var random = SeededRandom(61)
        for columns in [1, 7, 16, 64, 67] {
            func matrix(_ rows: Int) -> Matrix {
                Matrix(
                    rows: rows, columns: columns,
                    values: (0..<rows * columns).map { _ in Float.random(in: -2...2, using: &random) })
            }
            let table = matrix(50)
            let query = matrix(1)
            for count in [0, 1, 8, 9, 200] {
                let rows = (0..<count).map { _ in UInt32.random(in: 0..<50, using: &random) }
                onEveryLevel {
                    for kind in [RowScore.dotProduct, .negativeSquaredDistance] {
                        var scores = [Float](repeating: .nan, count: count + 1)
                        var span = scores.mutableSpan
                        table.gatherScores(kind, query: query.view, rows: rows.span, into: &span)
                        #expect(scores[count].isNaN)
                        for i in 0..<count {
                            let pairs = zip(query.copyRow(0), table.copyRow(Int(rows[i])))
                            let exact = pairs.reduce(0.0) { sum, pair in
                                let (a, b) = (Double(pair.0), Double(pair.1))
                                return kind == .dotProduct ? sum + a * b : sum - (a - b) * (a - b)
                            }
                            #expect(abs(Double(scores[i]) - exact) < 1e-4)
                        }
                    }
                }
            }
        }
    }
}
