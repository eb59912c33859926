import Artifacts
import Features
import Kernels
import RecCore
import TestSupport
import Testing

@testable import Ranking

/// SASRec as ModelFormat.md §3.4 says it: the sequence padded to N slots, in double precision.
struct SASRecTwin {
    let configuration: SequenceConfiguration
    let variant: SequenceConfiguration.SASRecVariant
    let attendsPads: Bool
    let tensors: TensorSet
    static let items = 15

    static func random(_ seed: UInt64, _ variant: SequenceConfiguration.SASRecVariant, attendsPads: Bool)
        -> SASRecTwin
    {
        var r = SeededRandom(seed)
        let heads = [1, 2, 4].randomElement(using: &r)!
        let d = heads * Int.random(in: 2...5, using: &r)
        let n = Int.random(in: 2...30, using: &r)
        let f = Int.random(in: 1...12, using: &r)
        let configuration = SequenceConfiguration(
            family: .sasrec(variant: variant, attendPads: attendsPads), dimension: d,
            layers: Int.random(in: 1...3, using: &r),
            heads: heads, maxEvents: n, dot: DotHead(normalize: .none))
        var t = TensorSet()
        t.add("sequence.item_embedding.weight", [items, d], scale: 0.6, &r)
        t.add("sequence.position_embedding.weight", [n + 1, d], scale: 0.6, &r)
        for l in 0..<configuration.layers {
            let p = "sequence.layers.\(l)."
            t.add(p + "attention.in_proj_weight", [3 * d, d], scale: 0.8, &r)
            t.add(p + "attention.in_proj_bias", [3 * d], scale: 0.5, &r)
            t.add(p + "attention.out_proj.weight", [d, d], scale: 0.6, &r)
            t.add(p + "attention.out_proj.bias", [d], scale: 0.4, &r)
            t.add(p + "ffn.0.weight", [f, d], scale: 0.6, &r)
            t.add(p + "ffn.0.bias", [f], scale: 0.4, &r)
            t.add(p + "ffn.1.weight", [d, f], scale: 0.6, &r)
            t.add(p + "ffn.1.bias", [d], scale: 0.4, &r)
            for name in ["attention_norm", "ffn_norm"] {
                t.add(p + name + ".weight", [d], scale: 0.3, around: 1, &r)
                t.add(p + name + ".bias", [d], scale: 0.3, &r)
            }
        }
        t.add("sequence.final_norm.weight", [d], scale: 0.3, around: 1, &r)
        t.add("sequence.final_norm.bias", [d], scale: 0.3, &r)
        return SASRecTwin(
            configuration: configuration, variant: variant, attendsPads: attendsPads, tensors: t)
    }

    func normed(_ x: [Double], _ name: String) -> [Double] {
        norm(x, epsilon: 1e-8, weight: tensors.vector(name + ".weight"), bias: tensors.vector(name + ".bias"))
    }

    /// Rows of all N slots; the first `pads` of them are padding.
    func rows(_ items: [Int]) -> [[Double]] {
        let d = configuration.dimension
        let n = configuration.maxEvents
        let pads = n - items.count
        let table = tensors.rows("sequence.item_embedding.weight")
        let positions = tensors.rows("sequence.position_embedding.weight")
        let zero = [Double](repeating: 0, count: d)
        var x = (1...n).map { slot in
            slot <= pads
                ? zero
                : plus(table[items[slot - 1 - pads]].map { $0 * Double(d).squareRoot() }, positions[slot])
        }
        for l in 0..<configuration.layers {
            for i in 0..<pads { x[i] = zero }
            x = block("sequence.layers.\(l).", x, pads: pads)
        }
        return x.dropFirst(pads).map { normed($0, "sequence.final_norm") }
    }

    private func block(_ p: String, _ x: [[Double]], pads: Int) -> [[Double]] {
        func feedForward(_ z: [Double]) -> [Double] {
            let hidden = product(tensors.rows(p + "ffn.0.weight"), z, plus: tensors.vector(p + "ffn.0.bias"))
                .map { max(0, $0) }
            return product(tensors.rows(p + "ffn.1.weight"), hidden, plus: tensors.vector(p + "ffn.1.bias"))
        }
        let n = x.map { normed($0, p + "attention_norm") }
        switch variant {
        case .original:
            return zip(n, attention(p, n, x, pads: pads)).map { q, a in
                let z = normed(plus(q, a), p + "ffn_norm")
                return plus(z, feedForward(z))
            }
        case .preNorm:
            return zip(x, attention(p, n, n, pads: pads)).map { x, a in
                let sum = plus(x, a)
                return plus(sum, feedForward(normed(sum, p + "ffn_norm")))
            }
        case .postNorm:
            return zip(x, attention(p, x, x, pads: pads)).map { x, a in
                let y = normed(plus(x, a), p + "attention_norm")
                return normed(plus(y, feedForward(y)), p + "ffn_norm")
            }
        }
    }

    private func attention(_ p: String, _ queries: [[Double]], _ keys: [[Double]], pads: Int) -> [[Double]] {
        let d = configuration.dimension
        let width = d / configuration.heads
        let weight = tensors.rows(p + "attention.in_proj_weight")
        let bias = tensors.vector(p + "attention.in_proj_bias")
        func project(_ x: [[Double]], _ part: Int) -> [[Double]] {
            x.map {
                product(
                    Array(weight[part * d..<(part + 1) * d]), $0, plus: Array(bias[part * d..<(part + 1) * d])
                )
            }
        }
        let q = project(queries, 0), k = project(keys, 1), v = project(keys, 2)
        return q.indices.map { i in
            var output: [Double] = []
            for head in 0..<configuration.heads {
                let c = head * width..<(head + 1) * width
                let seen = (0...i).filter { attendsPads || $0 >= pads }
                let weights = seen.map { j in
                    power(
                        2.718281828459045, inner(Array(q[i][c]), Array(k[j][c])) / Double(width).squareRoot())
                }
                let total = weights.reduce(0, +)
                output += c.map { column in
                    zip(seen, weights).reduce(0) { $0 + v[$1.0][column] * $1.1 / total }
                }
            }
            return product(
                tensors.rows(p + "attention.out_proj.weight"), output,
                plus: tensors.vector(p + "attention.out_proj.bias"))
        }
    }
}

@Suite struct SASRecTests {
    @Test(arguments: SequenceConfiguration.SASRecVariant.allCases, [true, false])
    func `rows and dot scores equal the twin for every block form, with and without attended pads`(
        _ variant: SequenceConfiguration.SASRecVariant, _ attendsPads: Bool
    ) throws {
        for seed in 0..<8 {
            let twin = SASRecTwin.random(UInt64(seed), variant, attendsPads: attendsPads)
            let tensors = try twin.tensors.bundle()
            let model = try SequenceModel(
                twin.configuration, itemCount: SASRecTwin.items, tensors: tensors,
                tables: SharedTables(tensors))
            try tensors.refuseUnread()
            var random = SeededRandom(UInt64(50 + seed))
            let scorer = SequenceScorer(model, historyRows: 8)
            let prefix = model.makePrefix()
            var window = model.makeWindow()
            for count in [1, 2, twin.configuration.maxEvents, twin.configuration.maxEvents + 5] {
                let history = randomHistory(count, items: SASRecTwin.items, actions: 1, &random)
                window.fill(history: history)
                scorer.prefill(window, now: 0, into: prefix)
                let expected = twin.rows(history.suffix(twin.configuration.maxEvents).map(\.row))
                expectTwin(doubles(prefix.rows!), expected.flatMap(\.self))
                let dots = MutableMatrix(rows: SASRecTwin.items, columns: 1)
                scorer.dotScores(Array(0..<SASRecTwin.items)[...], prefix, into: dots.view)
                let table = twin.tensors.rows("sequence.item_embedding.weight")
                expectTwin(doubles(dots.view), table.map { inner($0, expected.last!) })
            }
        }
    }
}
