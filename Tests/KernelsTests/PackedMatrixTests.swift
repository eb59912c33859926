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

    @Test func `a product equals the double sum for widths of whole vectors and others`() {
        var random = SeededRandom(2)
        for (m, inner, n) in [(1, 1, 16), (13, 5, 48), (12, 31, 32), (30, 3, 80), (5, 4, 7), (3, 2, 17)] {
            let a = random.matrix(m, inner, -1...1), wide = random.matrix(inner, n + 9, -1...1)
            let b = wide.view(rows: 0..<inner, columns: 4..<n + 4)
            onEveryLevel {
                let c = MutableMatrix(rows: m, columns: n + 2)
                c.view.fill(.nan)
                product(a.view, b, into: c.view(rows: 0..<m, columns: 0..<n))
                for i in 0..<m {
                    for j in 0..<n {
                        let expected = (0..<inner).reduce(0.0) { $0 + Double(a[i, $1]) * Double(b[$1, j]) }
                        #expect(abs(Double(c[i, j]) - expected) < 1e-5)
                    }
                    #expect(c[i, n].isNaN && c[i, n + 1].isNaN)
                }
            }
        }
    }

    @Test func `rows are placed, added, scaled, dotted and transposed where asked and nowhere else`() {
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
        let z = MutableMatrix(rows: 3, columns: 5)
        z.view.rowDots(from.view, other.view, scale: 0.5, intoColumn: 4)
        let sums = MutableMatrix(rows: 3, columns: 4)
        sums.view.addRows(from.view, factors: z.view.reading, column: 4)
        for i in 0..<3 {
            let expected = 0.5 * (0..<4).reduce(Float(0)) { $0 + from[i, $1] * other[i, $1] }
            #expect(abs(z[i, 4] - expected) < 1e-6 && z[i, 0] == 0)
            for j in 0..<4 { #expect(abs(sums[i, j] - z[i, 4] * from[i, j]) < 1e-6) }
        }
        let t = MutableMatrix(rows: 4, columns: 6)
        t.view.copyTransposed(from.view, atColumn: 2)
        for i in 0..<4 { for j in 0..<6 { #expect(t[i, j] == ((2..<5).contains(j) ? from[j - 2, i] : 0)) } }
    }
}
