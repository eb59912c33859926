internal import CKernels

/// What attention adds to its scores.
@safe public struct AttentionBias {
    enum Rows { case shared, own, sliding }

    let view: MatrixView
    let column: Int
    let rows: Rows

    /// One row for all queries, from `column` of `row` [1, n] on.
    public static func shared(_ row: MatrixView, column: Int = 0) -> AttentionBias {
        AttentionBias(view: row, column: column, rows: .shared)
    }

    /// A row for each query, [m, n].
    public static func own(_ rows: MatrixView) -> AttentionBias {
        AttentionBias(view: rows, column: 0, rows: .own)
    }

    /// The first query reads `row` [1, n] from `column` on, each next one from a column further to the
    /// left: a relative position bias.
    public static func sliding(_ row: MatrixView, column: Int) -> AttentionBias {
        AttentionBias(view: row, column: column, rows: .sliding)
    }

    /// Floats from one query's bias to the next's; traps unless `seen` floats are there for the first of
    /// `count` queries and `step` more for each next one.
    fileprivate func stride(_ count: Int, seen: Int, step: Int) -> Int {
        let wide = seen + (count - 1) * step
        switch rows {
        case .shared:
            precondition(column >= 0 && column + wide <= view.columns, "bias of \(view.columns) for \(wide)")
            return 0
        case .own:
            precondition(view.rows >= count && wide <= view.columns, "bias [\(view.rows), \(view.columns)]")
            return view.stride
        case .sliding:
            let end = column + seen + (count - 1) * max(0, step - 1)
            precondition(
                column - (count - 1) >= 0 && end <= view.columns, "bias of \(view.columns) at \(column)")
            return -1
        }
    }
}

/// What the queries of one call see: the first sees `first` events, each next one `step` more.
public struct AttentionReach: Sendable {
    let first: Int
    let step: Int

    /// Every query sees the first `count` events.
    public static func all(_ count: Int) -> AttentionReach { AttentionReach(first: count, step: 0) }

    /// The queries are events themselves: the first sees those before `event` and itself.
    public static func causal(from event: Int) -> AttentionReach {
        AttentionReach(first: event + 1, step: 1)
    }

    func last(_ queries: Int) -> Int { first + (queries - 1) * step }
}

extension KeyValueSequence {
    /// output[r] = Σ SiLU(q_r · k_j + bias) · scale · v_j over the events j that query r sees (Zhai et al.
    /// 2024, eq. 2).
    ///
    /// Shapes: `queries` [m, dqk], `output` [m, dv]; `own`, a further event of each query's own, which it
    /// sees last: keys [m, dqk], values [m, dv] of one matrix. Traps on a mismatch. No allocation.
    public func siluAttend(
        layer: Int, head: Int, queries: MatrixView, seeing reach: AttentionReach, bias: AttentionBias?,
        own: (keys: MatrixView, values: MatrixView)? = nil, scale: Float, into output: MutableMatrixView
    ) {
        guard queries.rows > 0 else { return }
        check(queries, reach, width: layout.keyDimension)
        precondition(output.rows == queries.rows && output.columns == layout.valueDimension, "output shape")
        let stride = bias?.stride(queries.rows, seen: reach.first + (own == nil ? 0 : 1), step: reach.step)
        if let own {
            precondition(
                own.keys.rows == queries.rows && own.keys.columns == layout.keyDimension
                    && own.values.rows == queries.rows && own.values.columns == layout.valueDimension
                    && own.keys.stride == own.values.stride, "shape of the own events")
        }
        unsafe withBlocks(layer: layer, head: head) { blocks in
            // SAFETY: all shapes were checked above; the views and `self` keep what is read alive.
            var blocks = unsafe blocks
            var rows = unsafe reach.rows(queries)
            var added = unsafe CKernels_bias(
                row: bias.map { unsafe $0.view.pointer(row: 0) + $0.column }, stride: stride ?? 0)
            var further = unsafe CKernels_own(
                keys: own?.keys.pointer(row: 0), values: own?.values.pointer(row: 0),
                stride: own?.keys.stride ?? 0)
            unsafe CKernels_silu_attend(
                &blocks, &rows, &added, &further, scale, output.pointer(row: 0), output.stride)
        }
    }

    /// scores[r, j] = q_r · k_j · scale for at least the events that query r sees.
    ///
    /// Shapes: `queries` [m, dqk], `scores` [m, ≥ events seen, in whole blocks]. Traps on a mismatch. No
    /// allocation.
    public func scores(
        layer: Int, head: Int, queries: MatrixView, seeing reach: AttentionReach, scale: Float,
        into scores: MutableMatrixView
    ) {
        guard queries.rows > 0 else { return }
        check(queries, reach, width: layout.keyDimension)
        precondition(
            scores.rows == queries.rows
                && scores.columns >= KeyValueBlock.count(events: reach.last(queries.rows))
                    * KeyValueBlock.events,
            "scores [\(scores.rows), \(scores.columns)]")
        unsafe withBlocks(layer: layer, head: head) { blocks in
            // SAFETY: as above.
            var blocks = unsafe blocks
            var rows = unsafe reach.rows(queries)
            unsafe CKernels_attention_scores(&blocks, &rows, scale, scores.pointer(row: 0), scores.stride)
        }
    }

    /// output[r] = Σ weights[r, j] · v_j over at least the events that query r sees; weights beyond are zero.
    ///
    /// Shapes: `weights` [m, ≥ events seen], `output` [m, dv]. Traps on a mismatch. No allocation.
    public func mix(
        layer: Int, head: Int, weights: MatrixView, seeing reach: AttentionReach,
        into output: MutableMatrixView
    ) {
        guard weights.rows > 0 else { return }
        check(weights, reach, width: nil)
        precondition(weights.columns >= reach.last(weights.rows), "\(weights.columns) weights")
        precondition(output.rows == weights.rows && output.columns == layout.valueDimension, "output shape")
        unsafe withBlocks(layer: layer, head: head) { blocks in
            // SAFETY: as above; of the rows, only their number and reach are read.
            var blocks = unsafe blocks
            var rows = unsafe reach.rows(weights)
            unsafe CKernels_attention_mix(
                &blocks, &rows, weights.pointer(row: 0), weights.stride, output.pointer(row: 0), output.stride
            )
        }
    }

    private func check(_ rows: MatrixView, _ reach: AttentionReach, width: Int?) {
        precondition((width ?? rows.columns) == rows.columns, "\(rows.columns) columns of queries")
        precondition(
            reach.first >= 0 && reach.last(rows.rows) <= blocks.count * KeyValueBlock.events,
            "\(reach.last(rows.rows)) events in \(blocks.count) blocks")
    }
}

extension AttentionReach {
    @unsafe fileprivate func rows(_ view: MatrixView) -> CKernels_queries {
        unsafe CKernels_queries(
            query: view.pointer(row: 0), stride: view.stride, rows: view.rows, seen: first, step: step)
    }
}

extension MutableMatrixView {
    /// Sets the first floats of row `row`, one for each of `range`, to the entries of `table` that those of
    /// `classes` name, plus those of `bias` [1, n] from `biasColumn` on.
    ///
    /// Traps unless `table` is [1, 129]; a class beyond is the last one.
    public func setRow(
        _ row: Int, to table: Matrix, of classes: [UInt8], _ range: Range<Int>, adding bias: MatrixView?,
        biasColumn: Int = 0
    ) {
        precondition(table.rows == 1 && table.columns == 129, "a table of \(table.columns) classes")
        precondition(
            range.upperBound <= classes.count && range.count <= columns, "\(range) of the classes")
        precondition(
            biasColumn >= 0 && biasColumn + range.count <= bias?.columns ?? .max,
            "bias columns \(biasColumn)+\(range.count) of \(bias?.columns ?? 0)")
        unsafe classes.withUnsafeBufferPointer { source in
            // SAFETY: all counts were checked above, and and all that is read outlives this call.
            guard let first = source.baseAddress else { return }
            unsafe CKernels_class_bias(
                table.view.pointer(row: 0), first + range.lowerBound,
                bias.map { unsafe $0.pointer(row: 0) + biasColumn }, pointer(row: row), range.count)
        }
    }
}
