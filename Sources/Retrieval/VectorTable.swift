public import Artifacts
public import Kernels

/// Item vectors and the measure between them: the exact side of every search.
///
/// Frozen, shared by all threads.
public struct VectorTable: Sendable {
    /// Smallest norm that a cosine divides by.
    public static let normFloor: Float = 1e-12

    /// What closeness means in this space.
    public let metric: Metric
    /// [items, dimension], as the bundle has them.
    public let vectors: Matrix
    private let floor: Float
    /// [1, items]: 1/‖row‖, for cosines; nil where the metric is `l2`.
    let inverseNorms: Matrix?

    /// Columns of a vector.
    public var dimension: Int { vectors.columns }
    /// Rows.
    public var count: Int { vectors.rows }

    /// A table of `vectors` [items, dimension], finite. Norms are computed here once; the vectors are not
    /// copied.
    /// - Parameter floor: norms below it count as it.
    public init(_ vectors: Matrix, metric: Metric, floor: Float = VectorTable.normFloor) {
        self.metric = metric
        self.vectors = vectors
        self.floor = floor
        inverseNorms = metric == .l2 ? nil : Self.inverseNorms(of: vectors, floor: floor)
    }

    private static func inverseNorms(of vectors: Matrix, floor: Float) -> Matrix {
        Matrix(rows: 1, columns: vectors.rows) { norms in
            for row in 0..<vectors.rows {
                norms[row] = 1 / max(dot(vectors.view, row: row, vectors.view, row: row).squareRoot(), floor)
            }
        }
    }

    /// The measure for neighbours of an item: cosine instead of the inner product, whose best answers are
    /// merely the longest vectors, else the metric.
    public var similarity: Metric { metric == .innerProduct ? .cosine : metric }

    /// Copies `query` [1, dimension] to `prepared` as searches by `measure` want it: of norm 1 for cosine.
    func prepare(_ query: MatrixView, measure: Metric, into prepared: MutableMatrix) throws(RetrievalError) {
        guard query.rows == 1, query.columns == dimension else {
            throw .dimensionMismatch(expected: dimension, found: query.columns)
        }
        guard query.isFinite else { throw .notFinite }
        prepared.view.copyRow(0, from: query, row: 0)
        if measure == .cosine { prepared.view.normalizeRows(floor: floor) }
    }

    /// scores[i] = the exact score of row rows[i], for the first `count` of `rows`; `query` is prepared.
    func score(
        _ query: MatrixView, measure: Metric, rows: [UInt32], count: Int, into scores: inout [Float]
    ) {
        var target = scores.mutableSpan
        vectors.gatherScores(
            measure == .l2 ? .negativeSquaredDistance : .dotProduct, query: query,
            rows: rows.span.extracting(0..<count), into: &target)
        guard measure == .cosine, let inverseNorms else { return }
        inverseNorms.view.withRow(0) { norms in
            for i in 0..<count { target[i] *= norms[Int(rows[i])] }
        }
    }

    /// The mean of the vectors of `rows`, the query of a basket or a playlist; zeros when there are none.
    ///
    /// With cosine, vectors count by their direction alone. `mean` is [1, dimension]; traps when a row is out
    /// of range.
    public func mean(of rows: [Int], into mean: MutableMatrixView) {
        mean.fill(0)
        guard !rows.isEmpty else { return }
        let share = 1 / Float(rows.count)
        for row in rows {
            let factor = metric == .cosine ? share * (inverseNorms?[0, row] ?? 1) : share
            mean.addRow(0, factor: factor, from: vectors.view, row: row)
        }
    }

    /// A copy of consecutive rows as an index of codes takes them: of norm 1 when the metric is cosine.
    func encodable(_ range: Range<Int>) -> Matrix {
        Matrix(rows: range.count, columns: dimension) { target in
            for (i, row) in range.enumerated() {
                let factor = metric == .cosine ? inverseNorms?[0, row] ?? 1 : 1
                vectors.view.withRow(row) { source in
                    for j in 0..<source.count { target[i * source.count + j] = source[j] * factor }
                }
            }
        }
    }
}
