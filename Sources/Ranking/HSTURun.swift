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
        attended = MutableMatrix(rows: rows, columns: model.valueWidth)
        bias = MutableMatrix(rows: rows, columns: wide)
        buckets = [UInt8](repeating: 0, count: blockRows * wide)
    }

    // MARK: History

    func prefill(_ window: HistoryWindow, now: Double, reusing reused: Int, into prefix: SequencePrefix) {
        var first = reused
        while first < window.count {
            let last = min(first + blockRows, window.count)
            embed(window, first..<last)
            if model.hasTimeBias { classify(window.times, now: now, first..<last) }
            for l in 0..<model.layers.count {
                let layer = model.layers[l]
                project(layer, rows: last - first)
                store(first..<last, prefix.sequence, l)
                makeBias(layer, first..<last)
                attend(layer, first..<last, prefix.sequence, l)
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
            model.buckets.fill(&buckets, from: base, times: times, count: i + 1, before: next)
        }
    }

    private func store(_ range: Range<Int>, _ sequence: KeyValueSequence, _ l: Int) {
        let rows = 0..<range.count
        for head in 0..<model.heads {
            let columns = columns(head)
            sequence.store(
                layer: l, head: head, at: range.lowerBound,
                keys: uvqk.view(rows: rows, columns: columns.key).reading,
                values: uvqk.view(rows: rows, columns: columns.value).reading)
        }
    }

    /// Position plus time bias of each row, shared by all heads. Without times the position bias is read in
    /// place.
    private func makeBias(_ layer: HSTUModel.Layer, _ range: Range<Int>) {
        for i in range { writeBias(layer, row: i - range.lowerBound, count: i + 1, position: i) }
    }

    /// Row `row` of `bias` for a token at `position` that sees `count` tokens, itself last.
    private func writeBias(_ layer: HSTUModel.Layer, row: Int, count: Int, position: Int) {
        guard let table = layer.timeBias else { return }
        let base = row * (model.maxEvents + 1)
        bias.view.setRow(
            row, to: table, of: buckets, base..<base + count, adding: layer.positionBias?.view,
            biasColumn: layer.positionBias == nil ? 0 : model.normalizer - 1 - position)
    }

    private func attend(
        _ layer: HSTUModel.Layer, _ range: Range<Int>, _ sequence: KeyValueSequence, _ l: Int
    ) {
        let rows = 0..<range.count
        let bias: AttentionBias? =
            model.hasTimeBias
            ? .own(bias.view(rows: rows).reading)
            : layer.positionBias.map {
                .sliding($0.view, column: model.normalizer - 1 - range.lowerBound)
            }
        for head in 0..<model.heads {
            let columns = columns(head)
            sequence.siluAttend(
                layer: l, head: head, queries: uvqk.view(rows: rows, columns: columns.query).reading,
                seeing: .causal(from: range.lowerBound), bias: bias, scale: 1 / Float(model.normalizer),
                into: attended.view(rows: rows, columns: columns.output))
        }
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
            model.buckets.fill(&buckets, from: 0, times: prefix.times, count: count, before: now)
            buckets[count] = model.buckets.bucket(0)
        }
        var first = 0
        while first < rows.count {
            let last = min(first + microbatch, rows.count)
            embedCandidates(rows, first..<last, position: count)
            for l in 0..<model.layers.count {
                project(model.layers[l], rows: last - first)
                writeBias(model.layers[l], row: 0, count: count + 1, position: count)
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

    /// Each candidate attends to the history and, last, to itself.
    private func attendCandidates(
        _ layer: HSTUModel.Layer, rows: Range<Int>, _ prefix: SequencePrefix, _ l: Int
    ) {
        let bias: AttentionBias? =
            model.hasTimeBias
            ? .shared(bias.view(rows: 0..<1).reading)
            : layer.positionBias.map {
                .shared($0.view, column: model.normalizer - 1 - prefix.count)
            }
        for head in 0..<model.heads {
            let columns = columns(head)
            let own = (
                keys: uvqk.view(rows: rows, columns: columns.key).reading,
                values: uvqk.view(rows: rows, columns: columns.value).reading
            )
            prefix.sequence.siluAttend(
                layer: l, head: head, queries: uvqk.view(rows: rows, columns: columns.query).reading,
                seeing: .all(prefix.count), bias: bias, own: own, scale: 1 / Float(model.normalizer),
                into: attended.view(rows: rows, columns: columns.output))
        }
    }

    // MARK: Both

    /// Columns of one head: its query, key and value in `uvqk`, and its columns of the output.
    private func columns(
        _ head: Int
    ) -> (query: Range<Int>, key: Range<Int>, value: Range<Int>, output: Range<Int>) {
        let qk = model.keyDimension
        let v = model.valueDimension
        let query = 2 * model.valueWidth + head * qk
        let key = query + model.keyWidth
        let value = model.valueWidth + head * v
        return (query..<query + qk, key..<key + qk, value..<value + v, head * v..<(head + 1) * v)
    }

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
