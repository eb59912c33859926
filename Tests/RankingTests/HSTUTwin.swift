import Artifacts
import Kernels
import RecCore
import TestSupport

/// HSTU as ModelFormat.md §3.4 says it, one token after the other, in double precision.
struct HSTUTwin {
    let configuration: SequenceConfiguration
    let qk: Int
    let v: Int
    let n: Int
    let hasPosition: Bool
    let hasTime: Bool
    let tensors: TensorSet
    let items: Int

    static func random(_ seed: UInt64, position: Bool, time: Bool, bias: Bool = true, actions: Bool = true)
        -> HSTUTwin
    {
        var r = SeededRandom(seed)
        let heads = [1, 2, 3].randomElement(using: &r)!
        // Below four values a layer norm is close to a sign: floats and doubles would part.
        let (qk, v) = (Int.random(in: 1...6, using: &r), Int.random(in: 4...20, using: &r))
        let maxEvents = Int.random(in: 3...35, using: &r)
        let n = maxEvents + 1 + Int.random(in: 0...5, using: &r)
        let d = Int.random(in: 6...20, using: &r)
        let names = ["unknown", "view", "buy"]
        let configuration = SequenceConfiguration(
            family: .hstu(
                qkDimension: qk, valueDimension: v, normalizer: n, positionBias: position, timeBias: time),
            dimension: d, layers: Int.random(in: 1...3, using: &r), heads: heads, maxEvents: maxEvents,
            windowBlock: Int.random(in: 1...maxEvents, using: &r), actions: names,
            dot: DotHead(normalize: Bool.random(using: &r) ? .l2 : .none, temperature: 0.05),
            hasTarget: actions)
        var t = TensorSet()
        let items = 20
        t.add("sequence.item_embedding.weight", [items, d], scale: 0.5, &r)
        if actions { t.add("sequence.action_embedding.weight", [names.count + 1, d], scale: 0.5, &r) }
        t.add("sequence.position_embedding.weight", [maxEvents + 1, d], scale: 0.5, &r)
        for l in 0..<configuration.layers {
            let p = "sequence.layers.\(l)."
            t.add(p + "uvqk.weight", [2 * heads * (qk + v), d], scale: 0.8, &r)
            if bias { t.add(p + "uvqk.bias", [2 * heads * (qk + v)], scale: 0.3, &r) }
            t.add(p + "output.weight", [d, heads * v], scale: 0.5, &r)
            t.add(p + "output.bias", [d], scale: 0.3, &r)
            if position { t.add(p + "position_bias", [2 * n - 1], scale: 1, &r) }
            if time { t.add(p + "time_bias", [129], scale: 1, &r) }
        }
        if actions {
            t.add("sequence.target.norm.weight", [d], scale: 0.3, around: 1, &r)
            t.add("sequence.target.norm.bias", [d], scale: 0.3, &r)
            t.add("sequence.target.weight", [1, d], scale: 1, &r)
            t.add("sequence.target.bias", [1], scale: 1, &r)
        }
        return HSTUTwin(
            configuration: configuration, qk: qk, v: v, n: n, hasPosition: position, hasTime: time,
            tensors: t, items: items)
    }

    static func bucket(_ d: Double) -> Int {
        min(128, Int((naturalLogarithm(max(1, d.magnitude)) / 0.301).rounded(.towardZero)))
    }

    /// The window's events with their times filled in.
    func window(_ history: [HistoryEvent], offset: Int) -> [HistoryEvent] {
        var filled = history
        let known = history.compactMap(\.time)
        for i in filled.indices where filled[i].time == nil {
            filled[i].time = i == 0 ? known.first ?? 0 : filled[i - 1].time
        }
        let total = offset + history.count
        let b = configuration.windowBlock
        let surplus = max(0, total - configuration.maxEvents)
        let start = b * ((surplus + b - 1) / b)
        return Array(filled.dropFirst(start - offset))
    }

    /// Rows of the windowed events after the last layer, with one candidate at the end when given.
    func rows(_ events: [HistoryEvent], now: Double, candidate: Int? = nil) -> [[Double]] {
        let d = configuration.dimension
        let table = tensors.rows("sequence.item_embedding.weight")
        let actions =
            tensors.has("sequence.action_embedding.weight")
            ? tensors.rows("sequence.action_embedding.weight") : nil
        let positions = tensors.rows("sequence.position_embedding.weight")
        func token(_ item: Int, _ action: Int, _ position: Int) -> [Double] {
            (0..<d).map {
                Double(d).squareRoot() * table[item][$0] + (actions?[action][$0] ?? 0)
                    + positions[position][$0]
            }
        }
        var x = events.enumerated().map { token($1.row, $1.action, $0) }
        var t = events.map { $0.time! }
        if let candidate {
            x.append(token(candidate, actions!.count - 1, events.count))
            t.append(now)
        }
        // next_i: the candidate's own time is `now`, and so is what follows the last event.
        let next = x.indices.map { $0 + 1 < events.count ? t[$0 + 1] : now }
        for l in 0..<configuration.layers { x = layer(l, x, t, next) }
        return x
    }

    private func layer(_ l: Int, _ x: [[Double]], _ t: [Double], _ next: [Double]) -> [[Double]] {
        let p = "sequence.layers.\(l)."
        let h = configuration.heads
        let bias = tensors.has(p + "uvqk.bias") ? tensors.vector(p + "uvqk.bias") : nil
        let weight = tensors.rows(p + "uvqk.weight")
        let position = hasPosition ? tensors.vector(p + "position_bias") : []
        let time = hasTime ? tensors.vector(p + "time_bias") : []
        let uvqk = x.map { product(weight, norm($0, epsilon: 1e-6), plus: bias).map(silu) }
        func part(_ i: Int, _ from: Int, _ width: Int, _ head: Int) -> [Double] {
            Array(uvqk[i][from + head * width..<from + (head + 1) * width])
        }
        return x.indices.map { i in
            var o: [Double] = []
            for head in 0..<h {
                var sum = [Double](repeating: 0, count: v)
                for j in 0...i {
                    var s = inner(part(i, 2 * h * v, qk, head), part(j, 2 * h * v + h * qk, qk, head))
                    if hasPosition { s += position[(n - 1) - (i - j)] }
                    if hasTime { s += time[Self.bucket(next[i] - t[j])] }
                    let a = silu(s) / Double(n)
                    sum = plus(sum, part(j, h * v, v, head).map { a * $0 })
                }
                o += sum
            }
            let gated = times(Array(uvqk[i][0..<h * v]), norm(o, epsilon: 1e-6))
            return plus(
                product(tensors.rows(p + "output.weight"), gated, plus: tensors.vector(p + "output.bias")),
                x[i])
        }
    }

    /// The target head for one candidate alone.
    func target(_ events: [HistoryEvent], now: Double, candidate: Int) -> (vector: [Double], score: Double) {
        let y = rows(events, now: now, candidate: candidate).last!
        let vector = norm(
            y, epsilon: 1e-6, weight: tensors.vector("sequence.target.norm.weight"),
            bias: tensors.vector("sequence.target.norm.bias"))
        return (
            vector,
            inner(tensors.rows("sequence.target.weight")[0], vector)
                + tensors.vector("sequence.target.bias")[0]
        )
    }

    func dot(_ last: [Double], candidate: Int) -> Double {
        let item = tensors.rows("sequence.item_embedding.weight")[candidate]
        guard configuration.dot!.normalize == .l2 else { return inner(last, item) }
        return inner(last, item) / max(inner(last, last).squareRoot(), 1e-6)
            / max(inner(item, item).squareRoot(), 1e-6)
    }
}
