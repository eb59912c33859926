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
            let y = MutableMatrix(rows: 4, columns: 53), s = MutableMatrix(rows: 4, columns: 53)
            layerNorm(x.view, weight: w, bias: bias, epsilon: 1e-6, into: y.view)
            s.view.add(x.view)
            for i in 0..<4 {
                let row = x.copyRow(i).map(Double.init)
                let mean = row.reduce(0, +) / 53
                let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 53
                let extra = s.view.softmax(row: i, count: 40, extra: 0.25, extraCount: 3)
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

    @Test func `an empty product with beta 0 overwrites what was there, NaN too`() {
        let c = MutableMatrix(rows: 2, columns: 3)
        c.view.fill(.nan)
        let b = Matrix(rows: 0, columns: 3, values: [])
        gemm(MutableMatrix(rows: 2, columns: 0).view.reading, b.view, into: c.view)
        #expect(c.view.reading.copy() == [0, 0, 0, 0, 0, 0])
    }

    @Test func `a NaN stays visible through every kernel on every instruction set`() {
        let columns = 37
        onEveryLevel {
            for position in [0, 5, 36] {
                func row() -> MutableMatrixView {
                    let matrix = MutableMatrix(rows: 1, columns: columns)
                    matrix.view.fill(0.5)
                    matrix[0, position] = .nan
                    return matrix.view
                }
                for activation in [Activation.relu, .silu, .gelu, .tanh, .identity] {
                    let y = row()
                    activation.apply(to: y)
                    #expect(y[0, position].isNaN, "\(activation)")
                    #expect((0..<columns).allSatisfy { $0 == position || y[0, $0].isFinite })
                }
                let sigmoid = row(), softmax = row(), normalized = row(), layer = row()
                sigmoid.sigmoid()
                #expect(sigmoid[0, position].isNaN)
                _ = softmax.softmax(row: 0, count: columns)
                #expect(softmax.reading.copy().allSatisfy { $0.isNaN })
                normalized.normalizeRows(floor: 1e-12)
                #expect(normalized.reading.copy().allSatisfy { $0.isNaN })
                layerNorm(layer.reading, epsilon: 1e-6, into: layer)
                #expect(layer.reading.copy().allSatisfy { $0.isNaN })
            }
        }
    }

    @Test func `softmax of extreme scores is a distribution on every instruction set`() {
        onEveryLevel {
            for scores in [
                [1e30, -1e30, 0], [-1e30, -1e30, -1e30], [3e38, 3e38, -3e38], [-.infinity, 0, -.infinity],
                [100, 99, -100],
            ] as [[Float]] {
                for extraCount in [0, 2] {
                    let s = MutableMatrix(rows: 1, columns: 5)
                    s.view.fill(7)
                    for (i, score) in scores.enumerated() { s[0, i] = score }
                    let extra = s.view.softmax(row: 0, count: 3, extra: 0, extraCount: extraCount)
                    let row = s.copyRow(0)
                    #expect(row.allSatisfy { $0 >= 0 && $0 <= 1 } && row[3] == 0 && row[4] == 0)
                    #expect(abs(row.reduce(0, +) + extra * Float(extraCount) - 1) < 1e-6, "\(scores)")
                }
            }
        }
    }

    @Test func `layer norm of a constant row is its bias, and of a far row does not cancel`() {
        let bias = Matrix(rows: 1, columns: 33, values: (0..<33).map(Float.init))
        onEveryLevel {
            let y = MutableMatrix(rows: 1, columns: 33)
            y.view.fill(1e6)
            layerNorm(y.view.reading, bias: bias, epsilon: 1e-8, into: y.view)
            #expect(y.copyRow(0) == bias.copyRow(0))
            for i in 0..<33 { y[0, i] = 1000 + Float(i % 2) }
            layerNorm(y.view.reading, epsilon: 1e-8, into: y.view)
            // 17 zeros and 16 ones: mean 16/33, deviation √(16·17)/33.
            let deviation = Double(16 * 17).squareRoot() / 33
            for i in 0..<33 {
                #expect(abs(Double(y[0, i]) - (Double(i % 2) - 16.0 / 33) / deviation) < 1e-3)
            }
        }
    }
}
