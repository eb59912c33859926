import Kernels
import TestSupport

/// Vectors around random centres, as embeddings are: what an inverted file is made for.
struct Clusters {
    let items: Matrix
    let queries: Matrix

    init(items: Int, queries: Int, dimension: Int, centers: Int, seed: UInt64) {
        var random = SeededRandom(seed)
        let means = random.gaussians(centers, dimension)
        self.items = random.around(means, count: items)
        self.queries = random.around(means, count: queries)
    }
}

extension SeededRandom {
    mutating func gaussian() -> Float {
        // Twelve uniforms: near enough to a normal for tests.
        (0..<12).reduce(Float(-6)) { sum, _ in sum + Float.random(in: 0..<1, using: &self) }
    }

    mutating func gaussians(_ rows: Int, _ columns: Int) -> Matrix {
        Matrix(rows: rows, columns: columns, values: (0..<rows * columns).map { _ in gaussian() })
    }

    mutating func around(_ means: Matrix, count: Int) -> Matrix {
        var values: [Float] = []
        for _ in 0..<count {
            let mean = means.copyRow(Int.random(in: 0..<means.rows, using: &self))
            for m in mean { values.append(m + 0.7 * gaussian()) }
        }
        return Matrix(rows: count, columns: means.columns, values: values)
    }
}
