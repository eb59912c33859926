import Kernels
import TestSupport
import Testing

/// Attention over keys and values as plain rows, in double precision.
private struct AttentionTwin {
    let keys: Matrix  // [n, dk]
    let values: Matrix  // [n, dv]

    func score(_ query: MatrixView, _ row: Int, _ j: Int) -> Double {
        (0..<keys.columns).reduce(0) { $0 + Double(query[row, $1]) * Double(keys[j, $1]) }
    }

    /// Σ SiLU(q · k_j + bias_j) · scale · v_j.
    func output(_ query: MatrixView, _ row: Int, seen: Int, scale: Double, bias: (Int) -> Double) -> [Double]
    {
        var sum = [Double](repeating: 0, count: values.columns)
        for j in 0..<seen {
            let x = score(query, row, j) + bias(j)
            for c in sum.indices { sum[c] += x * sigmoid(x) * scale * Double(values[j, c]) }
        }
        return sum
    }
}

extension KernelTests {
    /// Keys and values in the blocks of one of two layers and heads, stored in pieces, among noise.
    private func sequence(
        _ twin: AttentionTwin, layer: Int, head: Int, pieces: Int
    ) -> KeyValueSequence {
        let layout = KeyValueLayout(
            layers: 2, heads: 2, keyDimension: twin.keys.columns, valueDimension: twin.values.columns)
        let sequence = KeyValueSequence(layout, capacity: 1)
        for index in 0..<KeyValueBlock.count(events: twin.keys.rows) {
            sequence.set(index, to: KeyValueBlock(layout))
        }
        // What nobody shall see: a NaN behind the events and in all other places.
        let filled = sequence.blocks.count * KeyValueBlock.events
        let keys = MutableMatrix(rows: filled, columns: twin.keys.columns)
        let values = MutableMatrix(rows: filled, columns: twin.values.columns)
        keys.view.fill(.nan)
        values.view.fill(.nan)
        for l in 0..<2 {
            for h in 0..<2 {
                sequence.store(layer: l, head: h, at: 0, keys: keys.view.reading, values: values.view.reading)
            }
        }
        var first = 0
        while first < twin.keys.rows {
            let last = min(first + pieces, twin.keys.rows)
            sequence.store(
                layer: layer, head: head, at: first, keys: twin.keys.view(rows: first..<last),
                values: twin.values.view(rows: first..<last))
            first = last
        }
        return sequence
    }

    @Test(arguments: [
        (1, 1, 1, 1), (2, 15, 3, 5), (3, 16, 4, 16), (4, 17, 5, 17), (5, 31, 16, 32), (6, 32, 32, 33),
        (7, 128, 2, 48), (8, 129, 8, 64), (9, 200, 7, 31), (11, 300, 33, 15), (12, 64, 6, 40),
        (13, 48, 1, 65),
        (25, 100, 9, 2), (1, 257, 32, 32), (2, 257, 32, 32), (3, 257, 31, 47),
    ])
    func `attention over blocks equals the double sum for all kinds of bias and reach`(
        _ m: Int, _ n: Int, _ dk: Int, _ dv: Int
    ) {
        var random = SeededRandom(UInt64(m * 1000 + n))
        let twin = AttentionTwin(keys: random.matrix(n, dk, -1...1), values: random.matrix(n, dv, -1...1))
        let queries = random.matrix(m, dk, -1...1), own = random.matrix(m, dk + dv, -1...1)
        let wide = random.matrix(m, 2 * n + m + 1, -2...2)
        let scale = 1 / Float(n)
        let keys = own.view(rows: 0..<m, columns: 0..<dk),
            values = own.view(rows: 0..<m, columns: dk..<dk + dv)
        let sequence = sequence(twin, layer: 1, head: 0, pieces: 7)
        for isCausal in [false, true] where !isCausal || m <= n {
            let first = isCausal ? n - m : n - 1
            let reach: AttentionReach = isCausal ? .causal(from: first) : .all(n)
            let kinds: [(AttentionBias?, (Int, Int) -> Double)] = [
                (nil, { _, _ in 0 }),
                (.shared(wide.view, column: 3 % n), { Double(wide[0, $1 + 3 % n]) }),
                (.own(wide.view), { Double(wide[$0, $1]) }),
                (.sliding(wide.view, column: m + 1), { Double(wide[0, m + 1 - $0 + $1]) }),
            ]
            for (bias, added) in kinds {
                for hasOwn in [false, true] {
                    let expected = (0..<m).map { row -> [Double] in
                        let seen = isCausal ? first + row + 1 : n
                        let sum = twin.output(
                            queries.view, row, seen: seen, scale: Double(scale), bias: { added(row, $0) })
                        guard hasOwn else { return sum }
                        let x = Double(dot(queries.view, row: row, keys, row: row)) + added(row, seen)
                        return sum.indices.map {
                            sum[$0] + x * sigmoid(x) * Double(scale) * Double(values[row, $0])
                        }
                    }
                    onEveryLevel {
                        let o = MutableMatrix(rows: m + 1, columns: dv + 2)
                        o.view.fill(7)
                        sequence.siluAttend(
                            layer: 1, head: 0, queries: queries.view, seeing: reach, bias: bias,
                            own: hasOwn ? (keys: keys, values: values) : nil, scale: scale,
                            into: o.view(rows: 0..<m, columns: 1..<dv + 1))
                        for row in 0...m {
                            for c in 0..<dv + 2 {
                                let isInside = row < m && (1...dv).contains(c)
                                let difference = Double(o[row, c]) - (isInside ? expected[row][c - 1] : 7)
                                #expect(abs(difference) < 3e-6)
                            }
                        }
                    }
                }
            }
        }
    }

    @Test(arguments: [(1, 1, 3, 2), (5, 40, 7, 17), (13, 31, 16, 16), (30, 100, 5, 40)])
    func `scores and mixing over blocks equal the double sums`(_ m: Int, _ n: Int, _ dk: Int, _ dv: Int) {
        var random = SeededRandom(UInt64(n))
        let twin = AttentionTwin(keys: random.matrix(n, dk, -1...1), values: random.matrix(n, dv, -1...1))
        let queries = random.matrix(m, dk, -1...1)
        let sequence = sequence(twin, layer: 0, head: 1, pieces: 100)
        let reach = AttentionReach.causal(from: n - m)
        onEveryLevel {
            let scores = MutableMatrix(rows: m, columns: KeyValueBlock.count(events: n) * 16 + 5)
            let o = MutableMatrix(rows: m, columns: dv)
            sequence.scores(
                layer: 0, head: 1, queries: queries.view, seeing: reach, scale: 0.5, into: scores.view)
            for row in 0..<m {
                let seen = n - m + row + 1
                for j in 0..<seen {
                    #expect(abs(Double(scores[row, j]) - twin.score(queries.view, row, j) / 2) < 1e-5)
                }
                scores.view.fillRow(row, columns: seen..<scores.columns, with: 0)
            }
            sequence.mix(layer: 0, head: 1, weights: scores.view.reading, seeing: reach, into: o.view)
            for row in 0..<m {
                for c in 0..<dv {
                    let expected = (0..<n - m + row + 1).reduce(0.0) {
                        $0 + Double(scores[row, $1]) * Double(twin.values[$1, c])
                    }
                    #expect(abs(Double(o[row, c]) - expected) < 1e-4)
                }
            }
        }
    }

    @Test func `without any event the output is zero, or the own event's`() {
        let sequence = KeyValueSequence(
            KeyValueLayout(layers: 1, heads: 1, keyDimension: 2, valueDimension: 20), capacity: 0)
        var random = SeededRandom(4)
        let rows = random.matrix(2, 24)
        let queries = rows.view(rows: 0..<2, columns: 0..<2), keys = rows.view(rows: 0..<2, columns: 2..<4),
            values = rows.view(rows: 0..<2, columns: 4..<24)
        onEveryLevel {
            for own in [nil, (keys: keys, values: values)] {
                let o = MutableMatrix(rows: 2, columns: 20)
                o.view.fill(.nan)
                sequence.siluAttend(
                    layer: 0, head: 0, queries: queries, seeing: .all(0), bias: nil, own: own, scale: 1,
                    into: o.view)
                for row in 0..<2 {
                    let x = own == nil ? 0 : Double(dot(queries, row: row, keys, row: row))
                    for c in 0..<20 {
                        #expect(abs(Double(o[row, c]) - x * sigmoid(x) * Double(values[row, c])) < 1e-5)
                    }
                }
            }
        }
    }

    @Test func `a score of any size gives its SiLU, and a NaN or infinity stays visible`() {
        let layout = KeyValueLayout(layers: 1, heads: 1, keyDimension: 1, valueDimension: 1)
        let sequence = KeyValueSequence(layout, capacity: 1)
        sequence.set(0, to: KeyValueBlock(layout))
        let one = Matrix(rows: 1, columns: 1, values: [1])
        onEveryLevel {
            for x: Float in [
                0, 1e-30, -1e-3, 1, -1, 9, -9, 60, -60, 87, -88, 1e4, -1e4, 1e30, .infinity, .nan,
            ] {
                let o = MutableMatrix(rows: 1, columns: 1)
                let key = Matrix(rows: 1, columns: 1, values: [x])
                sequence.store(layer: 0, head: 0, at: 0, keys: key.view, values: one.view)
                sequence.siluAttend(
                    layer: 0, head: 0, queries: one.view, seeing: .all(1), bias: nil, scale: 1, into: o.view)
                if x.isFinite {
                    let expected = Double(x) * sigmoid(Double(x))
                    #expect(abs(Double(o[0, 0]) - expected) <= 1.2e-6 * max(1, expected.magnitude))
                } else {
                    #expect(!o[0, 0].isFinite)
                }
            }
        }
    }

    @Test func `a row of table entries is found by class, with and without a bias`() {
        var random = SeededRandom(9)
        let table = random.matrix(1, 129), bias = random.matrix(1, 70)
        for count in [0, 1, 15, 16, 17, 50] {
            let classes = (0..<count + 3).map { _ in UInt8.random(in: 0...255, using: &random) }
            onEveryLevel {
                for added in [nil, bias.view] as [MatrixView?] {
                    let y = MutableMatrix(rows: 2, columns: 60)
                    y.view.setRow(1, to: table, of: classes, 3..<count + 3, adding: added, biasColumn: 5)
                    for j in 0..<60 {
                        let entry = j < count ? table[0, min(128, Int(classes[j + 3]))] : 0
                        #expect(y[1, j] == (j < count && added != nil ? entry + bias[0, 5 + j] : entry))
                        #expect(y[0, j] == 0)
                    }
                }
            }
        }
    }
}
