internal import Artifacts
internal import Kernels
internal import RecCore

/// One feature of all catalogue items, looked up once at load: table rows instead of words, numbers already
/// squashed.
///
/// 4 bytes per item and value (8 when squashed), far less than the encoded columns, and per candidate only a
/// copy from a small table.
enum ItemColumn: Sendable {
    /// A table row per item.
    case rows([UInt32])
    /// Table rows per item, pooled; item i has those from offsets[i] to offsets[i + 1].
    case lists(offsets: [Int], rows: [UInt32])
    /// [I, 2]
    case squashed(Matrix)

    /// - Throws: when an item's own attribute cannot be encoded.
    init(_ encoder: ValueEncoder, count: Int, value: (Int) -> FeatureValue?) throws(FeatureError) {
        if case .squash = encoder.kind {
            self = .squashed(
                try Matrix(rows: count, columns: 2) { (span: inout MutableSpan<Float>) throws(FeatureError) in
                    for item in 0..<count {
                        let (squashed, isMissing) = try encoder.squash(value(item))
                        span[2 * item] = squashed
                        span[2 * item + 1] = isMissing
                    }
                })
            return
        }
        var offsets = [0]
        var rows: [UInt32] = []
        rows.reserveCapacity(count)
        for item in 0..<count {
            for row in try encoder.tableRows(value(item)) { rows.append(UInt32(row)) }
            if encoder.isPooled { offsets.append(rows.count) }
        }
        self = encoder.isPooled ? .lists(offsets: offsets, rows: rows) : .rows(rows)
    }

    /// Writes the item's encoding to the columns that begin at `column`.
    func encode(item: Int, _ encoder: ValueEncoder, into rows: MutableMatrixView, row: Int, column: Int) {
        switch (self, encoder.kind) {
        case (.squashed(let values), _): rows.copyRow(row, atColumn: column, from: values.view, row: item)
        case (.rows(let tableRows), .words(_, _, let table)), (.rows(let tableRows), .bins(_, let table)):
            rows.copyRow(row, atColumn: column, from: table.view, row: Int(tableRows[item]))
        case (.lists(let offsets, let tableRows), .words(_, let pooling, let table)):
            let columns = column..<column + table.columns
            rows.fillRow(row, columns: columns, with: 0)
            let range = offsets[item]..<offsets[item + 1]
            for i in range { rows.addRow(row, atColumn: column, from: table.view, row: Int(tableRows[i])) }
            if pooling == .mean, range.count > 1 {
                rows.scaleRow(row, columns: columns, by: 1 / Float(range.count))
            }
        default: preconditionFailure("a column of another feature")
        }
    }
}
