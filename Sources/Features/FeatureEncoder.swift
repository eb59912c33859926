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

        var range: Range<Int> { offset..<offset + feature.width }
    }

    /// Bytes of the catalogue's encoded attributes at most; features beyond are encoded per candidate.
    public static let itemTableMaximum = 512 << 20

    /// The names, in the order of the columns.
    public let inputs: [String]
    /// Columns of a row.
    public let width: Int
    /// The columns that `encodeCandidates` writes, feature by feature, ascending; `encodeQuery` writes the
    /// others.
    public let candidateRanges: [Range<Int>]
    private let queryColumns: [Column]
    private let candidateColumns: [Column]
    private let table: ItemTable?

    init(inputs: [String], width: Int, columns: [Column], itemCount: Int, tableMaximum: Int) {
        self.inputs = inputs
        self.width = width
        queryColumns = columns.filter { !Self.isPerCandidate($0.feature) }
        let candidates = columns.filter { Self.isPerCandidate($0.feature) }
        candidateRanges = candidates.map(\.range)
        let table = ItemTable(candidates, itemCount: itemCount, maximum: tableMaximum)
        candidateColumns = candidates.filter { table?.holds($0) != true }
        self.table = table
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

    /// Writes each candidate's own columns; the request's columns are left alone.
    ///
    /// Row i is for the i-th candidate of the slice; the slice's indices are the rows of the views in
    /// `stages`. No allocation unless a candidate brings features of its own.
    /// - Throws: `FeatureError`, naming the feature.
    public func encodeCandidates(
        _ candidates: ArraySlice<Candidate>, stages: StageValues, into rows: MutableMatrixView
    ) throws(FeatureError) {
        precondition(
            rows.rows == candidates.count && rows.columns == width, "[\(rows.rows), \(rows.columns)]")
        try table?.encode(candidates, into: rows)
        for column in candidateColumns {
            switch column.feature {
            case .item(let encoder, _): try encode(candidates, column, encoder, into: rows)
            case .itemRow(let table):
                rows.copyItems(of: candidates, from: table.view, atColumn: column.offset)
            case .stage(let stage, let width, let mean, let deviation):
                encode(candidates, stage, stages, column.offset, width, mean, deviation, into: rows)
            case .user, .context, .userRow, .pool:
                preconditionFailure("a request's feature among the candidates'")
            }
        }
    }

    // Candidates are read by index: a copy of one would count references to its features.

    private func encode(
        _ candidates: ArraySlice<Candidate>, _ column: Column, _ encoder: ValueEncoder,
        into rows: MutableMatrixView
    ) throws(FeatureError) {
        for row in 0..<rows.rows {
            let index = candidates.startIndex + row
            let own =
                candidates[index].features.isEmpty ? nil : candidates[index].features[encoder.key]
            if own == nil, let items = column.items {
                items.encode(
                    item: candidates[index].row, encoder, into: rows, row: row, column: column.offset)
            } else {
                try encoder.encode(own, into: rows, row: row, column: column.offset)
            }
        }
    }

    private func encode(
        _ candidates: ArraySlice<Candidate>, _ stage: Stage, _ stages: StageValues, _ offset: Int,
        _ width: Int, _ mean: Double, _ deviation: Double, into rows: MutableMatrixView
    ) {
        let first = candidates.startIndex
        switch stage {
        case .towerScore:
            for row in 0..<rows.rows {
                let score = Double(candidates[first + row].retrievalScore)
                rows[row, offset] = Float((score - mean) / deviation)
            }
        case .itemPopularity:
            for row in 0..<rows.rows {
                let popularity = stages.popularity?[0, candidates[first + row].row] ?? 0
                rows[row, offset] = Float((Double(popularity) - mean) / deviation)
            }
        case .towerItemVector:
            for row in 0..<rows.rows {
                write(
                    stages.itemVectors, candidates[first + row].row, width: width, mean, deviation,
                    into: rows, row: row, column: offset)
            }
        case .sequenceDot, .sequenceScore, .sequenceVector, .towerUserVector:
            let values = value(of: stage, stages)
            for row in 0..<rows.rows {
                write(
                    values, first + row, width: width, mean, deviation, into: rows, row: row, column: offset)
            }
        }
    }

    /// The view whose rows are a stage's values for the candidates.
    private func value(of stage: Stage, _ stages: StageValues) -> MatrixView? {
        switch stage {
        case .sequenceDot: stages.sequenceDot
        case .sequenceScore: stages.sequenceScore
        case .sequenceVector: stages.sequenceVector
        case .towerItemVector, .towerUserVector, .towerScore, .itemPopularity: nil
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
