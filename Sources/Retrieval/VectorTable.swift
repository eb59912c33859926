public import Artifacts
public import Kernels

/// Item vectors and the measure between them: the exact side of every search.
///
/// Frozen, shared by all threads.
public struct VectorTable: Sendable {
    /// Smallest norm that a cosine divides by.
    public static let normFloor: Float = 1e-12

    public let metric: Metric
    /// [items, dimension]; rows of norm 1 when the metric is cosine.
    public let vectors: Matrix
    private let floor: Float
    /// [1, items]: 1/‖row‖, for searches by cosine in a space of another metric.
    private let inverseNorms: Matrix?

    public var dimension: Int { vectors.columns }
    public var count: Int { vectors.rows }

    /// A table of `vectors` [items, dimension], finite; normalised here when the metric is cosine.
    /// - Parameter floor: norms below it count as it.
    public init(_ vectors: Matrix, metric: Metric, floor: Float = VectorTable.normFloor) {
        self.metric = metric
        self.floor = floor
        let inverse = metric == .l2 ? nil : Self.inverseNorms(of: vectors, floor: floor)
        if metric == .cosine, let inverse {
            self.vectors = Matrix(rows: vectors.rows, columns: vectors.columns) { target in
                for row in 0..<vectors.rows {
                    let factor = inverse[0, row]
                    vectors.view.withRow(row) { source in
                        for i in 0..<source.count { target[row * source.count + i] = source[i] * factor }
                    }
                }
            }
            inverseNorms = nil
        } else {
            self.vectors = vectors
            inverseNorms = inverse
        }
    }

    private static func inverseNorms(of vectors: Matrix, floor: Float) -> Matrix {
        Matrix(rows: 1, columns: vectors.rows) { norms in
            for row in 0..<vectors.rows {
                norms[row] = 1 / max(dot(vectors.view, row: row, vectors.view, row: row).squareRoot(), floor)
            }
        }
    }

    /// The measure for neighbours of an item: cosine instead of the inner product, whose best answers are merely the
    /// longest vectors, else the metric.
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
    /// Rows of norm 1 are averaged when the metric is cosine. `mean` is [1, dimension]; traps when a row is out of range.
    public func mean(of rows: [Int], into mean: MutableMatrixView) {
        mean.fill(0)
        guard !rows.isEmpty else { return }
        for row in rows { mean.addRow(0, factor: 1 / Float(rows.count), from: vectors.view, row: row) }
    }
}
