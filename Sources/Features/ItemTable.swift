internal import Kernels
internal import RecCore

/// The catalogue's attributes as the ranker reads them, encoded once at load: per candidate one row is
/// copied.
///
/// Tables that have a row per item are left out: they are such a table already.
struct ItemTable: Sendable {
    /// Columns of the table that lie side by side in the ranker's rows too.
    private struct Run: Sendable {
        let source: Range<Int>
        let offset: Int
    }

    private let values: Matrix  // [I, width]
    private let runs: [Run]
    /// What a candidate may bring in place of the catalogue's value, and where it goes.
    private let features: [(encoder: ValueEncoder, offset: Int)]

    /// Encodes the columns that are attributes, the first ones as far as `maximum` bytes hold them; nil when
    /// there is none.
    init?(_ columns: [FeatureEncoder.Column], itemCount: Int, maximum: Int) {
        var taken: [(encoder: ValueEncoder, items: ItemColumn, offset: Int)] = []
        var runs: [Run] = []
        var width = 0
        for column in columns {
            guard case .item(let encoder, _) = column.feature, let items = column.items else { continue }
            let range = width..<width + encoder.width
            guard range.upperBound * itemCount <= maximum / MemoryLayout<Float>.size else { continue }
            taken.append((encoder, items, column.offset))
            if let last = runs.last, last.offset + last.source.count == column.offset {
                runs[runs.count - 1] = Run(
                    source: last.source.lowerBound..<range.upperBound, offset: last.offset)
            } else {
                runs.append(Run(source: range, offset: column.offset))
            }
            width = range.upperBound
        }
        guard !taken.isEmpty else { return nil }
        self.runs = runs
        features = taken.map { ($0.encoder, $0.offset) }
        let scratch = MutableMatrix(rows: 1, columns: width)
        values = Matrix(rows: itemCount, columns: width) { span in
            for item in 0..<itemCount {
                var column = 0
                for (encoder, items, _) in taken {
                    items.encode(item: item, encoder, into: scratch.view, row: 0, column: column)
                    column += encoder.width
                }
                scratch.view.reading.withRow(0) { row in
                    for i in 0..<width { span[item * width + i] = row[i] }
                }
            }
        }
    }

    /// Whether the column is one of the table's.
    func holds(_ column: FeatureEncoder.Column) -> Bool { features.contains { $0.offset == column.offset } }

    /// Writes the attributes' columns of each candidate's row, its own values over the catalogue's.
    func encode(_ candidates: ArraySlice<Candidate>, into rows: MutableMatrixView) throws(FeatureError) {
        let first = candidates.startIndex
        for run in runs {
            let source = values.view(rows: 0..<values.rows, columns: run.source)
            rows.copyItems(of: candidates, from: source, atColumn: run.offset)
        }
        for row in 0..<rows.rows where !candidates[first + row].features.isEmpty {
            for (encoder, offset) in features {
                guard let own = candidates[first + row].features[encoder.key] else { continue }
                try encoder.encode(own, into: rows, row: row, column: offset)
            }
        }
    }
}

extension MutableMatrixView {
    /// Copies the rows of the candidates' items to the columns that begin at `column`.
    func copyItems(of candidates: ArraySlice<Candidate>, from table: MatrixView, atColumn column: Int) {
        for row in 0..<rows {
            let index = candidates.startIndex + row
            let ahead = index + MatrixView.prefetchDistance
            if ahead < candidates.endIndex { table.prefetch(row: candidates[ahead].row) }
            copyRow(row, atColumn: column, from: table, row: candidates[index].row)
        }
    }
}
