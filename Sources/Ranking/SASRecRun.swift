internal import Artifacts
internal import Kernels

/// SASRec's forward pass with one thread's scratch; a block of rows goes through all layers at once, as in
/// `HSTURun`.
final class SASRecRun: SequenceRun {
    private let model: SASRecModel
    private let blockRows: Int
    private let x: MutableMatrix  // [blockRows, D]: the block's input and output
    private let residual: MutableMatrix  // [blockRows, D]: what attention is added to, then its sum
    private let qkv: MutableMatrix  // [blockRows, 3D]
    private let scores: MutableMatrix  // [blockRows, N in whole blocks]
    private let attended: MutableMatrix  // [blockRows, D]
    private let padScores: MutableMatrix  // [blockRows, 1]
    private let hidden: MutableMatrix  // [blockRows, F]

    init(model: SASRecModel, blockRows: Int) {
        self.model = model
        self.blockRows = blockRows
        let d = model.dimension
        x = MutableMatrix(rows: blockRows, columns: d)
        residual = MutableMatrix(rows: blockRows, columns: d)
        qkv = MutableMatrix(rows: blockRows, columns: 3 * d)
        scores = MutableMatrix(
            rows: blockRows,
            columns: KeyValueBlock.count(events: model.maxEvents) * KeyValueBlock.events)
        attended = MutableMatrix(rows: blockRows, columns: d)
        padScores = MutableMatrix(rows: blockRows, columns: 1)
        hidden = MutableMatrix(rows: blockRows, columns: model.feedForwardWidth)
    }

    func score(
        _ rows: ArraySlice<Int>, _ prefix: SequencePrefix, now: Double,
        vectors: MutableMatrixView,
        scores: MutableMatrixView
    ) {
        preconditionFailure("SASRec has no target head")
    }

    func prefill(
        _ window: HistoryWindow, now: Double, reusing reused: Int, outputs: RowOutputs,
        into prefix: SequencePrefix
    ) {
        let pads = model.attendsPads ? model.maxEvents - window.count : 0
        var first = reused
        while first < window.count {
            let last = min(first + blockRows, window.count)
            embed(window, first..<last)
            for l in 0..<model.blocks.count {
                // Of the last block, others see the keys and values only.
                let isLast = l == model.blocks.count - 1
                let read = isLast ? outputs.rows(first..<last, of: window.count) : first..<last
                let rows = read.lowerBound - first..<read.upperBound - first
                projectKept(model.blocks[l], rows: 0..<last - first)
                store(first..<last, prefix.sequence, l)
                guard !read.isEmpty else { continue }
                projectQueries(model.blocks[l], rows: rows)
                attend(model.blocks[l], rows, from: read.lowerBound, prefix.sequence, l, pads: pads)
                feedForward(model.blocks[l], rows: rows)
                guard isLast else { continue }
                norm(x, model.finalNorm, rows: rows, into: attended)
                let target = prefix.outputs.view
                for row in read { target.copyRow(row, from: attended.view.reading, row: row - first) }
            }
            first = last
        }
    }

    /// x = √D·E[item] + P[slot]; sequences end at slot N.
    private func embed(_ window: HistoryWindow, _ range: Range<Int>) {
        let root = Float(model.dimension).squareRoot()
        let firstSlot = model.maxEvents - window.count + 1
        for i in range {
            x.view.copyRow(i - range.lowerBound, from: model.positions.view, row: firstSlot + i)
            x.view.addRow(i - range.lowerBound, factor: root, from: model.items.view, row: window.itemRows[i])
        }
    }

    private func norm(
        _ source: MutableMatrix, _ norm: SASRecModel.Norm, rows: Range<Int>, into target: MutableMatrix
    ) {
        layerNorm(
            source.view(rows: rows).reading, weight: norm.weight, bias: norm.bias,
            epsilon: SASRecModel.normEpsilon, into: target.view(rows: rows))
    }

    private func copy(_ source: MutableMatrix, to target: MutableMatrix, rows: Range<Int>) {
        for row in rows { target.view.copyRow(row, from: source.view.reading, row: row) }
    }

    /// Keys and values; with `preNorm`, also their input in `attended`.
    private func projectKept(_ block: SASRecModel.Block, rows: Range<Int>) {
        let columns = model.dimension..<3 * model.dimension
        guard model.variant == .preNorm else { return project(block, x, columns, rows) }
        norm(x, block.attentionNorm, rows: rows, into: attended)
        project(block, attended, columns, rows)
    }

    /// After `projectKept`: queries, and in `residual` what attention will be added to.
    private func projectQueries(_ block: SASRecModel.Block, rows: Range<Int>) {
        let columns = 0..<model.dimension
        switch model.variant {
        case .original:
            // Queries and the residual are normed, keys and values are not.
            norm(x, block.attentionNorm, rows: rows, into: residual)
            project(block, residual, columns, rows)
        case .preNorm:
            project(block, attended, columns, rows)
            copy(x, to: residual, rows: rows)
        case .postNorm:
            project(block, x, columns, rows)
            copy(x, to: residual, rows: rows)
        }
    }

    private func project(
        _ block: SASRecModel.Block, _ source: MutableMatrix, _ outputs: Range<Int>, _ rows: Range<Int>
    ) {
        linear(
            source.view(rows: rows).reading, weight: block.input.view(rows: outputs),
            bias: block.inputBias.view(rows: 0..<1, columns: outputs),
            into: qkv.view(rows: rows, columns: outputs))
    }

    private func store(_ range: Range<Int>, _ sequence: KeyValueSequence, _ l: Int) {
        let rows = 0..<range.count
        for head in 0..<model.heads {
            let key = model.dimension + head * model.headWidth
            let value = key + model.dimension
            sequence.store(
                layer: l, head: head, at: range.lowerBound,
                keys: qkv.view(rows: rows, columns: key..<key + model.headWidth).reading,
                values: qkv.view(rows: rows, columns: value..<value + model.headWidth).reading)
        }
    }

    /// Causal softmax attention; `pads` equal keys at the left take part when the model attends to them.
    private func attend(
        _ block: SASRecModel.Block, _ rows: Range<Int>, from event: Int, _ sequence: KeyValueSequence,
        _ l: Int, pads: Int
    ) {
        let reach = AttentionReach.causal(from: event)
        let d = model.dimension
        let width = model.headWidth
        let scale = 1 / Float(width).squareRoot()
        let scores = scores.view(rows: rows)
        let padScores = padScores.view(rows: rows)
        for head in 0..<model.heads {
            let columns = head * width..<(head + 1) * width
            let q = qkv.view(rows: rows, columns: columns).reading
            sequence.scores(layer: l, head: head, queries: q, seeing: reach, scale: scale, into: scores)
            if pads > 0 {
                gemm(
                    q, block.pad.view(rows: 0..<1, columns: columns), transposingB: true, alpha: scale,
                    into: padScores)
            }
            for row in 0..<rows.count {
                let extra = pads > 0 ? padScores[row, 0] : 0
                padScores[row, 0] = scores.softmax(
                    row: row, count: event + row + 1, extra: extra, extraCount: pads)
            }
            let output = attended.view(rows: rows, columns: columns)
            sequence.mix(layer: l, head: head, weights: scores.reading, seeing: reach, into: output)
            if pads > 0 {
                let padValue = block.pad.view(
                    rows: 0..<1, columns: d + columns.lowerBound..<d + columns.upperBound)
                for row in 0..<rows.count {
                    output.addRow(row, factor: Float(pads) * padScores[row, 0], from: padValue, row: 0)
                }
            }
        }
        let residual = residual.view(rows: rows)
        for row in 0..<rows.count { residual.addRow(row, from: block.outputBias.view, row: 0) }
        gemm(
            attended.view(rows: rows).reading, block.output.view, transposingB: true, beta: 1, into: residual)
    }

    /// From `residual`, the sum after attention, to the next block's `x`.
    private func feedForward(_ block: SASRecModel.Block, rows: Range<Int>) {
        switch model.variant {
        case .original:
            norm(residual, block.feedForwardNorm, rows: rows, into: x)
            addFeedForward(block, of: x, to: x, rows: rows)
        case .preNorm:
            norm(residual, block.feedForwardNorm, rows: rows, into: attended)
            copy(residual, to: x, rows: rows)
            addFeedForward(block, of: attended, to: x, rows: rows)
        case .postNorm:
            norm(residual, block.attentionNorm, rows: rows, into: x)
            addFeedForward(block, of: x, to: x, rows: rows)
            norm(x, block.feedForwardNorm, rows: rows, into: x)
        }
    }

    /// target += W1 relu(W0 source + b0) + b1.
    private func addFeedForward(
        _ block: SASRecModel.Block, of source: MutableMatrix, to target: MutableMatrix, rows: Range<Int>
    ) {
        let hidden = hidden.view(rows: rows, columns: 0..<block.first.rows)
        linear(source.view(rows: rows).reading, weight: block.first, bias: block.firstBias, into: hidden)
        Activation.relu.apply(to: hidden)
        let target = target.view(rows: rows)
        for row in 0..<rows.count { target.addRow(row, from: block.secondBias.view, row: 0) }
        gemm(hidden.reading, block.second.view, transposingB: true, beta: 1, into: target)
    }
}
