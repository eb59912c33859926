import Kernels
import TestSupport
import Testing

extension KernelTests {
    @Test
    func `a packed linear layer equals the double sum for all tile remainders, with bias and accumulation`() {
        var random = SeededRandom(1)
        for (m, inner, out) in [
            (1, 1, 1), (2, 3, 15), (3, 7, 16), (11, 5, 17), (12, 20, 31), (13, 4, 32), (23, 9, 33),
            (24, 2, 48), (25, 33, 63), (26, 8, 67),
            (4, 1, 96), (5, 6, 3), (6, 6, 3), (7, 6, 3), (8, 6, 3), (9, 6, 3), (10, 6, 3),
        ] {
            let wide = random.matrix(m + 1, inner + 2, -1...1), weight = random.matrix(out, inner, -1...1),
                bias = random.matrix(1, out, -1...1)
            let x = wide.view(rows: 1..<m + 1, columns: 2..<inner + 2)
            let packed = PackedMatrix(weight)
            onEveryLevel {
                for (bias, accumulating) in [(nil, false), (bias, false), (nil, true), (bias, true)]
                    as [(Matrix?, Bool)]
                {
                    let y = MutableMatrix(rows: m + 1, columns: out + 3)
                    y.view.fill(0.5)
                    linear(
                        x, weight: packed, bias: bias, accumulating: accumulating,
                        into: y.view(rows: 0..<m, columns: 1..<out + 1))
                    for i in 0...m {
                        for j in 0..<out + 3 {
                            var expected = 0.5
                            if i < m, (1...out).contains(j) {
                                expected = (accumulating ? 0.5 : 0) + Double(bias?[0, j - 1] ?? 0)
                                for k in 0..<inner { expected += Double(x[i, k]) * Double(weight[j - 1, k]) }
                            }
                            #expect(abs(Double(y[i, j]) - expected) < 1e-5)
                        }
                    }
                }
            }
        }
    }

    @Test func `rows are placed, added and scaled where asked and nowhere else`() {
        var random = SeededRandom(3)
        let from = random.matrix(3, 4, -1...1), other = random.matrix(3, 4, -1...1)
        let y = MutableMatrix(rows: 4, columns: 9)
        y.view.copyRow(1, atColumn: 3, from: from.view, row: 2)
        y.view.addRow(1, atColumn: 3, factor: 2, from: other.view, row: 0)
        y.view.scaleRow(1, columns: 4..<6, by: 10)
        y.view.fillRow(2, columns: 0..<2, with: 7)
        for j in 0..<9 {
            let sum = (3..<7).contains(j) ? from[2, j - 3] + 2 * other[0, j - 3] : 0
            #expect(abs(y[1, j] - ((4..<6).contains(j) ? 10 * sum : sum)) < 1e-5)
            #expect(y[2, j] == (j < 2 ? 7 : 0) && y[0, j] == 0)
        }
    }
}
