internal import Artifacts
public import Kernels
public import RecCore

/// Writes the input rows of a tower or ranker: named features side by side, every name resolved when the
/// bundle was loaded.
///
/// Features of user, user id, context, history and the user vector are the same for all candidates of a
/// request and encoded once; those of items and candidates are written per candidate. Frozen; shared by all
/// threads.
public struct FeatureEncoder: Sendable {
    struct Column: Sendable {
        let offset: Int
        let feature: FeatureSchema.Feature
        /// The catalogue's own values, for an item feature that is an attribute.
        let items: ItemColumn?
    }

    /// The names, in the order of the columns.
    public let inputs: [String]
    /// Columns of a row.
    public let width: Int
    private let queryColumns: [Column]
    private let candidateColumns: [Column]

    init(inputs: [String], width: Int, columns: [Column]) {
        self.inputs = inputs
        self.width = width
        queryColumns = columns.filter { !Self.isPerCandidate($0.feature) }
        candidateColumns = columns.filter { Self.isPerCandidate($0.feature) }
    }

    private static func isPerCandidate(_ feature: FeatureSchema.Feature) -> Bool {
        switch feature {
        case .user, .context, .userRow, .pool, .stage(.towerUserVector, _, _, _): false
        case .item, .itemRow, .stage: true
        }
    }

    // MARK: Once per request

    /// Writes the request's columns of row `row`; the candidates' columns are left alone.
    ///
    /// `query.userFeatures` already holds the stored attributes under the request's own. A missing
    /// `userVector` [1, d] counts as zeros.
    /// - Throws: `FeatureError`, naming the feature.
    public func encodeQuery(
        _ query: Query, userVector: MatrixView? = nil, into rows: MutableMatrixView, row: Int = 0
    ) throws(FeatureError) {
        precondition(rows.columns == width, "\(rows.columns) columns for rows of \(width)")
        for column in queryColumns {
            let offset = column.offset
            switch column.feature {
            case .user(let encoder):
                try encoder.encode(query.userFeatures[encoder.key], into: rows, row: row, column: offset)
            case .context(let encoder):
                try encoder.encode(query.contextFeatures[encoder.key], into: rows, row: row, column: offset)
            case .userRow(let table):
                // A user who came after the model was trained has no row.
                let known = query.userRow.flatMap { (0..<table.rows - 1).contains($0) ? $0 : nil }
                rows.copyRow(row, atColumn: offset, from: table.view, row: known.map { $0 + 1 } ?? 0)
            case .pool(let table, let last, let pooling, let actions):
                pool(query.history, table, last: last, pooling, actions, into: rows, row: row, column: offset)
            case .stage(_, let width, let mean, let deviation):
                write(userVector, 0, width: width, mean, deviation, into: rows, row: row, column: offset)
            case .item, .itemRow: preconditionFailure("a candidate's feature among the request's")
            }
        }
    }

    /// Mean or sum over the newest `last` events of these actions.
    private func pool(
        _ history: [HistoryEvent], _ table: Matrix, last: Int, _ pooling: Pooling, _ actions: Set<Int>?,
        into rows: MutableMatrixView, row: Int, column: Int
    ) {
        let columns = column..<column + table.columns
        rows.fillRow(row, columns: columns, with: 0)
        var count = 0
        for event in history.reversed() {
            guard count < last else { break }
            guard actions?.contains(event.action) ?? true else { continue }
            rows.addRow(row, atColumn: column, from: table.view, row: event.row)
            count += 1
        }
        if pooling == .mean, count > 1 { rows.scaleRow(row, columns: columns, by: 1 / Float(count)) }
    }

    // MARK: Once per candidate

    /// Writes whole rows: the request's columns from `queryRow` [1, width], then each candidate's own.
    ///
    /// Row i is for the i-th candidate of the slice; the slice's indices are the rows of the views in
    /// `stages`. No allocation unless a candidate brings features of its own.
    /// - Throws: `FeatureError`, naming the feature.
    public func encodeCandidates(
        _ candidates: ArraySlice<Candidate>, queryRow: MatrixView, stages: StageValues,
        into rows: MutableMatrixView
    ) throws(FeatureError) {
        precondition(
            rows.rows == candidates.count && rows.columns == width, "[\(rows.rows), \(rows.columns)]")
        for row in 0..<rows.rows { rows.copyRow(row, from: queryRow, row: 0) }
        let first = candidates.startIndex
        for column in candidateColumns {
            let offset = column.offset
            switch column.feature {
            case .item(let encoder, _):
                for (row, candidate) in candidates.enumerated() {
                    let own = candidate.features.isEmpty ? nil : candidate.features[encoder.key]
                    if own == nil, let items = column.items {
                        items.encode(item: candidate.row, encoder, into: rows, row: row, column: offset)
                    } else {
                        try encoder.encode(own, into: rows, row: row, column: offset)
                    }
                }
            case .itemRow(let table):
                let view = table.view
                for (row, candidate) in candidates.enumerated() {
                    rows.copyRow(row, atColumn: offset, from: view, row: candidate.row)
                }
            case .stage(let stage, let width, let mean, let deviation):
                for (row, candidate) in candidates.enumerated() {
                    let (view, line) = value(of: stage, stages, index: first + row, item: candidate.row)
                    if stage == .towerScore {
                        rows[row, offset] = Float((Double(candidate.retrievalScore) - mean) / deviation)
                    } else if stage == .itemPopularity {
                        let popularity = stages.popularity?[0, candidate.row] ?? 0
                        rows[row, offset] = Float((Double(popularity) - mean) / deviation)
                    } else {
                        write(view, line, width: width, mean, deviation, into: rows, row: row, column: offset)
                    }
                }
            case .user, .context, .userRow, .pool:
                preconditionFailure("a request's feature among the candidates'")
            }
        }
    }

    /// The view that holds a stage's values, and the row in it.
    private func value(of stage: Stage, _ stages: StageValues, index: Int, item: Int) -> (MatrixView?, Int) {
        switch stage {
        case .towerItemVector: (stages.itemVectors, item)
        case .sequenceDot: (stages.sequenceDot, index)
        case .sequenceScore: (stages.sequenceScore, index)
        case .sequenceVector: (stages.sequenceVector, index)
        case .towerUserVector, .towerScore, .itemPopularity: (nil, 0)
        }
    }

    /// (x − mean)/deviation of a whole row, zeros in place of an absent one.
    private func write(
        _ values: MatrixView?, _ source: Int, width: Int, _ mean: Double, _ deviation: Double,
        into rows: MutableMatrixView, row: Int, column: Int
    ) {
        let columns = column..<column + width
        guard let values else { return rows.fillRow(row, columns: columns, with: Float(-mean / deviation)) }
        precondition(values.columns == width, "a stage vector of \(values.columns) columns for \(width)")
        rows.copyRow(row, atColumn: column, from: values, row: source)
        guard mean != 0 || deviation != 1 else { return }
        rows.withRow(row) { span in
            for i in columns { span[i] = Float((Double(span[i]) - mean) / deviation) }
        }
    }
}
