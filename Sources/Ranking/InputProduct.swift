internal import Kernels

/// The linear map W x of rows whose columns are partly the same for all candidates of a request: the share of
/// those is computed once a request.
struct InputProduct: Sendable {
    private struct Part: Sendable {
        let columns: Range<Int>
        let weight: PackedMatrix  // [out, columns]
    }

    /// Fewer columns of the request between two parts of the candidates' cost less than another part does.
    private static let gapMinimum = 8

    private let query: [Part]
    private let candidate: [Part]
    /// Columns of the result.
    let outputs: Int

    /// Packs `weight` [out, in]; `candidateColumns` ascend and are those that differ between candidates, nil
    /// for all.
    init(_ weight: Matrix, candidateColumns: [Range<Int>]? = nil) {
        outputs = weight.rows
        let all = 0..<weight.columns
        var query: [Range<Int>] = []
        var candidate: [Range<Int>] = []
        var end = 0
        for columns in candidateColumns ?? [all] where !columns.isEmpty {
            precondition(columns.lowerBound >= end && columns.upperBound <= all.upperBound, "\(columns)")
            if let last = candidate.last, columns.lowerBound - end < Self.gapMinimum {
                candidate[candidate.count - 1] = last.lowerBound..<columns.upperBound
            } else {
                if columns.lowerBound > end { query.append(end..<columns.lowerBound) }
                candidate.append(columns)
            }
            end = columns.upperBound
        }
        if end < all.upperBound { query.append(end..<all.upperBound) }
        func pack(_ columns: Range<Int>) -> Part {
            Part(columns: columns, weight: PackedMatrix(weight, columns: columns))
        }
        self.query = query.map(pack)
        self.candidate = candidate.map(pack)
    }

    /// base = bias + the share of the request's columns, which `x` [≥ 1, in] has in its first row; without
    /// such columns `x` is not read. `bias` nil counts as zeros; `base` [1, out].
    func prepare(_ x: MatrixView, bias: Matrix?, into base: MutableMatrixView) {
        if let bias { base.copyRow(0, from: bias.view, row: 0) } else { base.fill(0) }
        for part in query {
            let columns = x.view(rows: 0..<1, columns: part.columns)
            linear(columns, weight: part.weight, accumulating: true, into: base)
        }
    }

    /// y = base + the candidates' share of W x, row by row; `base` [1, out], zeros when nil; `y` [m, out].
    func apply(_ x: MatrixView, base: MatrixView?, into y: MutableMatrixView) {
        if candidate.isEmpty {
            y.fill(0)
            if let base { for row in 0..<y.rows { y.addRow(row, from: base, row: 0) } }
        }
        for (index, part) in candidate.enumerated() {
            linear(
                x.view(rows: 0..<x.rows, columns: part.columns), weight: part.weight,
                bias: index == 0 ? base : nil, accumulating: index > 0, into: y)
        }
    }
}
