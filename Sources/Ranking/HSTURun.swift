internal import Kernels

/// HSTU's forward pass with one thread's scratch: history rows in blocks, then candidates in microbatches
/// (M-FALCON).
///
/// A block of rows goes through all layers at once. That is exact because a row attends to earlier rows only,
/// whose keys and values every layer already has; it keeps the block in cache, and time classes are found
/// once for all layers.
final class HSTURun: SequenceRun {
    private let model: HSTUModel
    private let blockRows: Int
    private let microbatch: Int
    private let x: MutableMatrix  // [rows, D]
    private let normed: MutableMatrix  // [rows, D]
    private let uvqk: MutableMatrix  // [rows, 2h·dv + 2h·dqk]
    private let scores: MutableMatrix  // [rows, ≥ N + 1]
    private let attended: MutableMatrix  // [rows, h·dv]
    private let bias: MutableMatrix  // [rows, N + 1]: position plus time, of the layer at hand
    private var buckets: [UInt8]  // [blockRows, N + 1]

    init(model: HSTUModel, blockRows: Int, microbatch: Int) {
        self.model = model
        self.blockRows = blockRows
        self.microbatch = microbatch
        let wide = model.maxEvents + 1
        let rows = max(blockRows, microbatch)
        x = MutableMatrix(rows: rows, columns: model.dimension)
        normed = MutableMatrix(rows: rows, columns: model.dimension)
        uvqk = MutableMatrix(rows: rows, columns: 2 * (model.valueWidth + model.keyWidth))
        scores = MutableMatrix(rows: rows, columns: model.paddedEvents)
        attended = MutableMatrix(rows: rows, columns: model.valueWidth)
        bias = MutableMatrix(rows: rows, columns: wide)
        buckets = [UInt8](repeating: 0, count: blockRows * wide)
    }

    // MARK: History

    func prefill(_ window: HistoryWindow, now: Double, reusing reused: Int, into prefix: SequencePrefix) {
        prefix.count = window.count
        prefix.times.removeAll(keepingCapacity: true)
        prefix.times.append(contentsOf: window.times)
        var first = reused
        while first < window.count {
            let last = min(first + blockRows, window.count)
            embed(window, first..<last)
            if model.hasTimeBias { classify(window.times, now: now, first..<last) }
            for l in 0..<model.layers.count {
                let layer = model.layers[l]
                project(layer, rows: last - first)
                store(first..<last, keys: prefix.keys[l], values: prefix.values[l])
                makeBias(layer, first..<last)
                attend(layer, first..<last, prefix, l)
                finish(layer, rows: last - first)
            }
            let outputs = prefix.outputs.view
            for row in first..<last { outputs.copyRow(row, from: x.view.reading, row: row - first) }
            first = last
        }
    }

    /// x = √D·E[item] + A[action] + P[i].
    private func embed(_ window: HistoryWindow, _ range: Range<Int>) {
        let root = Float(model.dimension).squareRoot()
        let x = x.view
        let items = model.items.view
        let positions = model.positions.view
        for i in range {
            let row = i - range.lowerBound
            x.copyRow(row, from: positions, row: i)
            x.addRow(row, factor: root, from: items, row: window.itemRows[i])
            if let actions = model.actions {
                // An index the model has no name for is an unknown action.
                let action = window.actions[i]
                x.addRow(row, from: actions.view, row: (0..<actions.rows - 1).contains(action) ? action : 0)
            }
        }
    }

    /// The time class of every pair (row, earlier or same event): the next event's time minus the event's.
    private func classify(_ times: [Double], now: Double, _ range: Range<Int>) {
        let wide = model.maxEvents + 1
        for i in range {
            let next = i + 1 < times.count ? times[i + 1] : now
            let base = (i - range.lowerBound) * wide
            for j in 0...i { buckets[base + j] = model.buckets.bucket(next - times[j]) }
        }
    }

    private func store(_ range: Range<Int>, keys: MutableMatrix, values: MutableMatrix) {
        let rows = 0..<range.count
        let key = 2 * model.valueWidth + model.keyWidth
        keys.view.copyTransposed(
            uvqk.view(rows: rows, columns: key..<key + model.keyWidth).reading, atColumn: range.lowerBound)
        for head in 0..<model.heads {
            let value = columns(head).ownValue
            let new = uvqk.view(rows: rows, columns: value).reading
            let target = values.view(rows: valueRows(head, range))
            for row in rows { target.copyRow(row, from: new, row: row) }
        }
    }

    /// Rows of the prefix's values that belong to some events and a head: a head's values lie end to end, for
    /// the cache.
    private func valueRows(_ head: Int, _ events: Range<Int>) -> Range<Int> {
        let first = head * model.maxEvents
        return first + events.lowerBound..<first + events.upperBound
    }

    /// Position plus time bias of each row, shared by all heads. Without times the position bias is read in
    /// place.
    private func makeBias(_ layer: HSTUModel.Layer, _ range: Range<Int>) {
        guard !layer.timeBias.isEmpty else { return }
        for i in range { writeBias(layer, row: i - range.lowerBound, count: i + 1, position: i) }
    }

    /// Row `row` of `bias` for a token at `position` that sees `count` tokens, itself last.
    private func writeBias(_ layer: HSTUModel.Layer, row: Int, count: Int, position: Int) {
        let base = row * (model.maxEvents + 1)
        let table = layer.timeBias
        bias.view.withRow(row) { span in
            for j in 0..<count { span[j] = table[Int(buckets[base + j])] }
        }
        if let positionBias = layer.positionBias {
            let start = model.normalizer - 1 - position
            bias.view(rows: row..<row + 1, columns: 0..<count).add(
                positionBias.view(rows: 0..<1, columns: start..<start + count))
        }
    }

    private func attend(_ layer: HSTUModel.Layer, _ range: Range<Int>, _ prefix: SequencePrefix, _ l: Int) {
        let rows = 0..<range.count
        let seen = 0..<range.upperBound
        let scale = 1 / Float(model.normalizer)
        // Whole vectors of keys: what is computed beyond `seen` is never read.
        let wide = 0..<HSTUModel.padded(range.upperBound)
        let products = self.scores.view(rows: rows, columns: wide)
        let scores = scores.view(rows: rows, columns: seen)
        for head in 0..<model.heads {
            let (query, _, _, key, value) = columns(head)
            product(
                uvqk.view(rows: rows, columns: query).reading,
                prefix.keys[l].view(rows: key, columns: wide).reading, into: products)
            for i in range {
                let row = i - range.lowerBound
                let (source, column) = biasRow(layer, row: row, position: i)
                scores.siluAttention(row: row, count: i + 1, bias: source, biasColumn: column, scale: scale)
            }
            product(
                scores.reading, prefix.values[l].view(rows: valueRows(head, seen)).reading,
                into: attended.view(rows: rows, columns: value))
        }
    }

    private func biasRow(_ layer: HSTUModel.Layer, row: Int, position: Int) -> (MatrixView?, Int) {
        if !layer.timeBias.isEmpty { return (bias.view(rows: row..<row + 1).reading, 0) }
        return (layer.positionBias?.view, model.normalizer - 1 - position)
    }

    // MARK: Candidates

    func score(
        _ rows: ArraySlice<Int>, _ prefix: SequencePrefix, now: Double,
        vectors: MutableMatrixView,
        scores results: MutableMatrixView
    ) {
        guard let target = model.target else { preconditionFailure("a model without a target head") }
        let count = prefix.count
        // All candidates share position and time: one row of classes, and one bias row per layer.
        if model.hasTimeBias {
            for j in 0..<count { buckets[j] = model.buckets.bucket(now - prefix.times[j]) }
            buckets[count] = model.buckets.bucket(0)
        }
        var first = 0
        while first < rows.count {
            let last = min(first + microbatch, rows.count)
            embedCandidates(rows, first..<last, position: count)
            for l in 0..<model.layers.count {
                project(model.layers[l], rows: last - first)
                if model.hasTimeBias { writeBias(model.layers[l], row: 0, count: count + 1, position: count) }
                attendCandidates(model.layers[l], rows: 0..<last - first, prefix, l)
                finish(model.layers[l], rows: last - first)
            }
            let normed = normed.view(rows: 0..<last - first)
            layerNorm(
                x.view(rows: 0..<last - first).reading, weight: target.normWeight, bias: target.normBias,
                epsilon: HSTUModel.normEpsilon, into: normed)
            for row in first..<last {
                vectors.copyRow(row, from: normed.reading, row: row - first)
                results[row, 0] = dot(normed.reading, row: row - first, target.weight.view) + target.bias
            }
            first = last
        }
    }

    private func embedCandidates(_ rows: ArraySlice<Int>, _ range: Range<Int>, position: Int) {
        guard let actions = model.actions else { return }
        let root = Float(model.dimension).squareRoot()
        let x = x.view
        for i in range {
            let row = i - range.lowerBound
            x.copyRow(row, from: model.positions.view, row: position)
            x.addRow(row, from: actions.view, row: actions.rows - 1)
            x.addRow(row, factor: root, from: model.items.view, row: rows[rows.startIndex + i])
        }
    }

    /// Each candidate attends to the history and to itself, its own score in the column after the history's.
    private func attendCandidates(
        _ layer: HSTUModel.Layer, rows: Range<Int>, _ prefix: SequencePrefix, _ l: Int
    ) {
        let count = prefix.count
        let scale = 1 / Float(model.normalizer)
        let (source, column) = biasRow(layer, row: 0, position: count)
        let wide = 0..<HSTUModel.padded(count)
        let products = scores.view(rows: rows, columns: wide)
        let history = scores.view(rows: rows, columns: 0..<count)
        let all = scores.view(rows: rows, columns: 0..<count + 1)
        for head in 0..<model.heads {
            let (query, ownKey, ownValue, key, value) = columns(head)
            let q = uvqk.view(rows: rows, columns: query).reading
            product(q, prefix.keys[l].view(rows: key, columns: wide).reading, into: products)
            all.rowDots(q, uvqk.view(rows: rows, columns: ownKey).reading, intoColumn: count)
            for row in rows {
                all.siluAttention(row: row, count: count + 1, bias: source, biasColumn: column, scale: scale)
            }
            let output = attended.view(rows: rows, columns: value)
            product(
                history.reading, prefix.values[l].view(rows: valueRows(head, 0..<count)).reading, into: output
            )
            output.addRows(
                uvqk.view(rows: rows, columns: ownValue).reading, factors: all.reading, column: count)
        }
    }

    // MARK: Both

    /// Columns of one head: its query, key and value in `uvqk`, its rows in the prefix's keys, its columns of
    /// the output.
    private func columns(_ head: Int) -> HeadColumns {
        let qk = model.keyDimension
        let v = model.valueDimension
        let key = head * qk..<(head + 1) * qk
        let value = head * v..<(head + 1) * v
        let query = 2 * model.valueWidth + key.lowerBound
        let ownKey = query + model.keyWidth
        let ownValue = model.valueWidth + value.lowerBound
        return (query..<query + qk, ownKey..<ownKey + qk, ownValue..<ownValue + v, key, value)
    }

    private typealias HeadColumns = (
        query: Range<Int>, ownKey: Range<Int>, ownValue: Range<Int>, key: Range<Int>, value: Range<Int>
    )

    /// uvqk = SiLU(W LN(x) + b).
    private func project(_ layer: HSTUModel.Layer, rows: Int) {
        let normed = normed.view(rows: 0..<rows)
        let uvqk = uvqk.view(rows: 0..<rows)
        layerNorm(x.view(rows: 0..<rows).reading, epsilon: HSTUModel.normEpsilon, into: normed)
        linear(normed.reading, weight: layer.uvqk, bias: layer.uvqkBias, into: uvqk)
        Activation.silu.apply(to: uvqk)
    }

    /// x = W_o (u ∘ LN(o)) + b_o + x.
    private func finish(_ layer: HSTUModel.Layer, rows: Int) {
        let x = x.view(rows: 0..<rows)
        let attended = attended.view(rows: 0..<rows)
        layerNorm(attended.reading, epsilon: HSTUModel.normEpsilon, into: attended)
        attended.multiply(attended.reading, uvqk.view(rows: 0..<rows, columns: 0..<model.valueWidth).reading)
        linear(attended.reading, weight: layer.output, bias: layer.outputBias, accumulating: true, into: x)
    }
}
