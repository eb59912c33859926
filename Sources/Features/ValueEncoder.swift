internal import Artifacts
internal import Kernels
internal import RecCore

/// Encodes the values of one feature that comes from a request or an attribute.
struct ValueEncoder: Sendable {
    enum Kind: Sendable {
        case words(Words, pooling: Pooling?, table: Matrix)
        case bins([Double], table: Matrix)
        case squash(SquashFunction, mean: Double, deviation: Double)
    }

    let feature: String
    let key: String
    let kind: Kind

    /// Columns of the output.
    var width: Int {
        switch kind {
        case .words(_, _, let table), .bins(_, let table): table.columns
        case .squash: 2
        }
    }

    /// Whether an array is allowed.
    var isPooled: Bool {
        if case .words(_, .some, _) = kind { return true }
        return false
    }

    /// Writes the encoding of a value, nil for a missing one, to the columns that begin at `column`.
    func encode(_ value: FeatureValue?, into rows: MutableMatrixView, row: Int, column: Int)
        throws(FeatureError)
    {
        switch kind {
        case .words(let words, nil, let table):
            rows.copyRow(row, atColumn: column, from: table.view, row: try tableRow(value, words))
        case .words(let words, .some(let pooling), let table):
            rows.fillRow(row, columns: column..<column + table.columns, with: 0)
            guard let value else { return }
            if case .strings(let texts) = value {
                for text in texts {
                    rows.addRow(row, atColumn: column, from: table.view, row: words.row(of: text))
                }
                guard pooling == .mean, texts.count > 1 else { return }
                rows.scaleRow(row, columns: column..<column + table.columns, by: 1 / Float(texts.count))
            } else {
                rows.addRow(row, atColumn: column, from: table.view, row: words.row(of: value))
            }
        case .bins(let boundaries, let table):
            rows.copyRow(row, atColumn: column, from: table.view, row: try bin(value, boundaries))
        case .squash:
            let (squashed, isMissing) = try squash(value)
            rows[row, column] = squashed
            rows[row, column + 1] = isMissing
        }
    }

    /// Refuses what `encode` would refuse.
    func check(_ value: FeatureValue) throws(FeatureError) {
        switch kind {
        case .words(let words, nil, _): _ = try tableRow(value, words)
        case .words: break
        case .bins: _ = try number(value)
        case .squash: _ = try squash(value)
        }
    }

    /// Rows of the table that a value stands for; several only when pooled, none for a missing pooled value.
    func tableRows(_ value: FeatureValue?) throws(FeatureError) -> [Int] {
        switch kind {
        case .words(let words, nil, _): return [try tableRow(value, words)]
        case .words(let words, .some, _):
            guard let value else { return [] }
            if case .strings(let texts) = value { return texts.map { words.row(of: $0) } }
            return [words.row(of: value)]
        case .bins(let boundaries, _): return [try bin(value, boundaries)]
        case .squash: return []
        }
    }

    private func tableRow(_ value: FeatureValue?, _ words: Words) throws(FeatureError) -> Int {
        if case .strings = value { throw .arrayNotAllowed(feature: feature, key: key) }
        return value.map { words.row(of: $0) } ?? 0
    }

    private func bin(_ value: FeatureValue?, _ boundaries: [Double]) throws(FeatureError) -> Int {
        guard let number = try number(value) else { return 0 }
        // Invariant: boundaries[..<low] ≤ number < boundaries[high...].
        var low = 0
        var high = boundaries.count
        while low < high {
            let middle = (low + high) / 2
            if boundaries[middle] <= number { low = middle + 1 } else { high = middle }
        }
        return 1 + low
    }

    /// The two columns of a squashed number.
    func squash(_ value: FeatureValue?) throws(FeatureError) -> (value: Float, isMissing: Float) {
        guard case .squash(let function, let mean, let deviation) = kind, let number = try number(value)
        else { return (0, 1) }
        let shaped: Double
        switch function {
        case .identity: shaped = number
        case .log1p: shaped = number < 0 ? -naturalLogarithm1p(-number) : naturalLogarithm1p(number)
        }
        let squashed = Float((shaped - mean) / deviation)
        guard squashed.isFinite else { throw .outOfRange(feature: feature, key: key) }
        return (squashed, 0)
    }

    /// The finite number in a value; nil for a missing value, a string or a boolean.
    private func number(_ value: FeatureValue?) throws(FeatureError) -> Double? {
        switch value {
        case .number(let number):
            guard number.isFinite else { throw .outOfRange(feature: feature, key: key) }
            return number
        case .strings: throw .arrayNotAllowed(feature: feature, key: key)
        case .string, .boolean, nil: return nil
        }
    }
}
