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
    private let uqvk: MutableMatrix  // [rows, 2h·dv + 2h·dqk]: u, q, v, k
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
        uqvk = MutableMatrix(rows: rows, columns: 2 * (model.valueWidth + model.keyWidth))
        attended = MutableMatrix(rows: rows, columns: model.valueWidth)
        bias = MutableMatrix(rows: rows, columns: wide)
        buckets = [UInt8](repeating: 0, count: blockRows * wide)
    }

    // MARK: History

    func prefill(
        _ window: HistoryWindow, now: Double, reusing reused: Int, outputs: RowOutputs,
        into prefix: SequencePrefix
    ) {
        var first = reused
        while first < window.count {
            let last = min(first + blockRows, window.count)
            embed(window, first..<last)
            if model.hasTimeBias { classify(window.times, now: now, first..<last) }
            for l in 0..<model.layers.count {
                // Of the last layer, others see the keys and values only.
                let isLast = l == model.layers.count - 1
                let read = isLast ? outputs.rows(first..<last, of: window.count) : first..<last
                advance(first..<last, reading: read, prefix.sequence, l)
                guard isLast else { continue }
                let target = prefix.outputs.view
                for row in read { target.copyRow(row, from: x.view.reading, row: row - first) }
            }
            first = last
        }
    }

    /// Takes the block `range` through layer `l`: keys and values of all rows, and the outputs of `read`, the
    /// rows at its end.
    private func advance(
        _ range: Range<Int>, reading read: Range<Int>, _ sequence: KeyValueSequence, _ l: Int
    ) {
        let layer = model.layers[l]
        let rows = read.lowerBound - range.lowerBound..<read.upperBound - range.lowerBound
        normalize(rows: 0..<range.count)
        project(layer.kept, 0..<range.count, columns: ownWidth..<2 * ownWidth)
        store(range, sequence, l)
        guard !read.isEmpty else { return }
        project(layer.own, rows, columns: 0..<ownWidth)
        for i in read { writeBias(layer, row: i - range.lowerBound, count: i + 1, position: i) }
        attend(layer, rows, from: read.lowerBound, sequence, l)
        finish(layer, rows: rows)
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
                keys: uqvk.view(rows: rows, columns: columns.key).reading,
                values: uqvk.view(rows: rows, columns: columns.value).reading)
        }
    }

    /// Row `row` of `bias`, shared by all heads, for a token at `position` that sees `count` tokens, itself
    /// last. Without times the position bias is read in place.
    private func writeBias(_ layer: HSTUModel.Layer, row: Int, count: Int, position: Int) {
        guard let table = layer.timeBias else { return }
        let base = row * (model.maxEvents + 1)
        bias.view.setRow(
            row, to: table, of: buckets, base..<base + count, adding: layer.positionBias?.view,
            biasColumn: layer.positionBias == nil ? 0 : model.normalizer - 1 - position)
    }

    private func attend(
        _ layer: HSTUModel.Layer, _ rows: Range<Int>, from event: Int, _ sequence: KeyValueSequence, _ l: Int
    ) {
        let bias: AttentionBias? =
            model.hasTimeBias
            ? .own(bias.view(rows: rows).reading)
            : layer.positionBias.map {
                .sliding($0.view, column: model.normalizer - 1 - event)
            }
        for head in 0..<model.heads {
            let columns = columns(head)
            sequence.siluAttend(
                layer: l, head: head, queries: uqvk.view(rows: rows, columns: columns.query).reading,
                seeing: .causal(from: event), bias: bias, scale: 1 / Float(model.normalizer),
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
                let layer = model.layers[l]
                let rows = 0..<last - first
                normalize(rows: rows)
                project(layer.own, rows, columns: 0..<ownWidth)
                project(layer.kept, rows, columns: ownWidth..<2 * ownWidth)
                writeBias(layer, row: 0, count: count + 1, position: count)
                attendCandidates(layer, rows: rows, prefix, l)
                finish(layer, rows: rows)
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
        // What all have in common, in a row that is free as yet.
        let common = normed.view
        common.copyRow(0, from: model.positions.view, row: position)
        common.addRow(0, from: actions.view, row: actions.rows - 1)
        for i in range {
            let row = i - range.lowerBound
            x.copyRow(row, from: common.reading, row: 0)
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
                keys: uqvk.view(rows: rows, columns: columns.key).reading,
                values: uqvk.view(rows: rows, columns: columns.value).reading
            )
            prefix.sequence.siluAttend(
                layer: l, head: head, queries: uqvk.view(rows: rows, columns: columns.query).reading,
                seeing: .all(prefix.count), bias: bias, own: own, scale: 1 / Float(model.normalizer),
                into: attended.view(rows: rows, columns: columns.output))
        }
    }

    // MARK: Both

    /// Columns of u and q, and as many of v and k.
    private var ownWidth: Int { model.valueWidth + model.keyWidth }

    /// Columns of one head: its query, key and value in `uqvk`, and its columns of the output.
    private func columns(
        _ head: Int
    ) -> (query: Range<Int>, key: Range<Int>, value: Range<Int>, output: Range<Int>) {
        let qk = model.keyDimension
        let v = model.valueDimension
        let query = model.valueWidth + head * qk
        let key = query + ownWidth
        let value = ownWidth + head * v
        return (query..<query + qk, key..<key + qk, value..<value + v, head * v..<(head + 1) * v)
    }

    private func normalize(rows: Range<Int>) {
        layerNorm(
            x.view(rows: rows).reading, epsilon: HSTUModel.normEpsilon, into: normed.view(rows: rows))
    }

    /// Some columns of `uqvk` = SiLU(W LN(x) + b).
    private func project(_ projection: HSTUModel.Projection, _ rows: Range<Int>, columns: Range<Int>) {
        let target = uqvk.view(rows: rows, columns: columns)
        linear(
            normed.view(rows: rows).reading, weight: projection.weight, bias: projection.bias, into: target)
        Activation.silu.apply(to: target)
    }

    /// x = W_o (u ∘ LN(o)) + b_o + x.
    private func finish(_ layer: HSTUModel.Layer, rows: Range<Int>) {
        let attended = attended.view(rows: rows)
        layerNorm(attended.reading, epsilon: HSTUModel.normEpsilon, into: attended)
        attended.multiply(attended.reading, uqvk.view(rows: rows, columns: 0..<model.valueWidth).reading)
        linear(
            attended.reading, weight: layer.output, bias: layer.outputBias, accumulating: true,
            into: x.view(rows: rows))
    }
}
