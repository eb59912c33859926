import Kernels
import TestSupport
import Testing

extension SeededRandom {
    mutating func matrix(_ rows: Int, _ columns: Int, _ range: ClosedRange<Float> = -2...2) -> Matrix {
        Matrix(
            rows: rows, columns: columns,
            values: (0..<rows * columns).map { _ in Float.random(in: range, using: &self) })
    }
}

@Suite(.serialized) struct KernelTests {
    /// Runs `body` on every instruction set this machine has, always the portable one.
    func onEveryLevel(_ body: () -> Void) {
        defer { Kernel.level = Kernel.supported }
        for level in Kernel.Level.allCases where level <= Kernel.supported {
            Kernel.level = level
            #expect(Kernel.level == level)
            body()
        }
    }

    @Test func `gemm equals the triple loop for both orientations and any rectangle`() {
        var random = SeededRandom(1)
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (17, 33, 9), (64, 48, 31)] {
            let a = random.matrix(m + 2, k + 3), b = random.matrix(k, n), bt = random.matrix(n, k)
            let left = a.view(rows: 1..<m + 1, columns: 2..<k + 2)
            let c = MutableMatrix(rows: m, columns: n), ct = MutableMatrix(rows: m, columns: n)
            gemm(left, b.view, into: c.view)
            gemm(left, bt.view, transposingB: true, alpha: 0.5, into: ct.view)
            for i in 0..<m {
                for j in 0..<n {
                    var s = 0.0, t = 0.0
                    for l in 0..<k {
                        s += Double(left[i, l]) * Double(b[l, j])
                        t += Double(left[i, l]) * Double(bt[j, l])
                    }
                    #expect(abs(Double(c[i, j]) - s) < 1e-4)
                    #expect(abs(Double(ct[i, j]) - t / 2) < 1e-4)
                }
            }
        }
    }

    @Test func `activations agree with double precision on every instruction set`() {
        var random = SeededRandom(2)
        let x = random.matrix(3, 67, -20...20)
        onEveryLevel {
            for (activation, exact) in [
                (Activation.relu, { max(0, $0) }), (.silu, { $0 * sigmoid($0) }), (.identity, { $0 }),
                (.tanh, { 2 * sigmoid(2 * $0) - 1 }),
            ] as [(Activation, (Double) -> Double)] {
                let y = MutableMatrix(rows: 3, columns: 67)
                y.view.add(x.view)
                activation.apply(to: y.view)
                for i in 0..<3 {
                    for j in 0..<67 {
                        #expect(
                            abs(Double(y[i, j]) - exact(Double(x[i, j]))) < 2e-6
                                * max(1, abs(Double(x[i, j]))))
                    }
                }
            }
        }
    }

    @Test
    func `layer norm, softmax, dot and attention weights agree with the slow twin on every instruction set`()
    {
        var random = SeededRandom(3)
        let x = random.matrix(4, 53), w = random.matrix(1, 53), b = random.matrix(1, 120)
        let bias = Matrix(rows: 1, columns: 53, values: Array(b.copyRow(0)[0..<53]))
        onEveryLevel {
            let y = MutableMatrix(rows: 4, columns: 53), s = MutableMatrix(rows: 4, columns: 53),
                a = MutableMatrix(rows: 4, columns: 53)
            layerNorm(x.view, weight: w, bias: bias, epsilon: 1e-6, into: y.view)
            s.view.add(x.view)
            a.view.add(x.view)
            for i in 0..<4 {
                let row = x.copyRow(i).map(Double.init)
                let mean = row.reduce(0, +) / 53
                let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 53
                let extra = s.view.softmax(row: i, count: 40, extra: 0.25, extraCount: 3)
                a.view.siluAttention(row: i, count: 40, bias: b.view, biasColumn: 7, scale: 0.125)
                let e = row[0..<40].map { power(2.718281828459045, $0) }
                let sum = e.reduce(0, +) + 3 * power(2.718281828459045, 0.25)
                #expect(abs(Double(extra) - power(2.718281828459045, 0.25) / sum) < 1e-6)
                #expect(
                    abs(
                        Double(dot(x.view, row: i, x.view, row: 0))
                            - zip(row, x.copyRow(0)).reduce(0) { $0 + $1.0 * Double($1.1) }) < 1e-4)
                for j in 0..<53 {
                    let expected =
                        (row[j] - mean) / (variance + 1e-6).squareRoot() * Double(w[0, j])
                        + Double(bias[0, j])
                    #expect(abs(Double(y[i, j]) - expected) < 1e-5)
                    #expect(abs(Double(s[i, j]) - (j < 40 ? e[j] / sum : 0)) < 1e-6)
                    let z = row[j] + Double(j < 40 ? b[0, 7 + j] : 0)
                    #expect(abs(Double(a[i, j]) - (j < 40 ? z * sigmoid(z) / 8 : 0)) < 1e-6)
                }
            }
        }
    }

    @Test func `finiteness sees a single NaN or infinity on every instruction set`() {
        onEveryLevel {
            for bad in [Float.nan, .infinity, -.infinity] {
                for position in [0, 7, 30] {
                    var values = [Float](repeating: 1, count: 31)
                    #expect(Matrix(rows: 1, columns: 31, values: values).isFinite)
                    values[position] = bad
                    #expect(!Matrix(rows: 1, columns: 31, values: values).isFinite)
                }
            }
        }
    }

    @Test func `half precision widens to the language's own conversion for all 65536 patterns`() {
        let patterns = (0..<65536).map { UInt16($0) }
        let wide = Matrix(rows: 1, columns: 65536) { span in
            PackedFloat.half.widen(patterns.span, into: &span)
        }
        for i in 0..<65536 {
            let expected = Float(Float16(bitPattern: patterns[i]))
            #expect(wide[0, i] == expected || (wide[0, i].isNaN && expected.isNaN))
        }
    }

    @Test func `top k equals sorting, keeps ties by row and sinks NaN`() {
        var random = SeededRandom(4)
        for k in [0, 1, 5, 100, 300] {
            var top = TopK(k)
            var all: [TopK.Entry] = []
            for row in 0..<200 {
                let score: Float = row % 17 == 0 ? .nan : Float(Int.random(in: 0..<20, using: &random))
                all.append(.init(row: row, score: score))
                top.insert(row: row, score: score)
            }
            let expected = Array(all.sorted { $0.precedes($1) }.prefix(k)).map(\.row)
            #expect(top.sorted().map(\.row) == expected)
        }
    }
}
