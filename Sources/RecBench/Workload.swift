internal import Kernels

/// Vectors of the reference workload: items and users around the same Gaussian centres, on the unit sphere.
///
/// The same seed and sizes give the same vectors. Real embeddings cluster in this way; nothing is tuned to
/// the contents.
struct Workload {
    static let centerCount = 2_000
    /// Spread of a vector around its centre, whose coordinates have spread 1.
    static let deviation: Float = 0.7

    let dimension: Int
    private let centers: Matrix  // [centerCount, dimension]
    private let seed: UInt64

    init(dimension: Int = 64, seed: UInt64) {
        self.dimension = dimension
        self.seed = seed
        var random = GaussianRandom(seed: seed)
        centers = Matrix(rows: Self.centerCount, columns: dimension) { values in
            for i in 0..<values.count { values[i] = random.next() }
        }
    }

    /// `count` item vectors.
    func items(_ count: Int) -> Matrix { vectors(count, stream: 1) }

    /// `count` user vectors, from the items' centres.
    func users(_ count: Int) -> Matrix { vectors(count, stream: 2) }

    /// Item vectors a slice at a time, the same as `items` gives at once.
    func itemStream() -> Stream { stream(1) }

    /// User vectors a slice at a time, the same as `users` gives at once.
    func userStream() -> Stream { stream(2) }

    private func stream(_ number: UInt64) -> Stream {
        Stream(centers: centers, random: GaussianRandom(seed: seed &+ number &* 0x9E37_79B9))
    }

    private func vectors(_ count: Int, stream number: UInt64) -> Matrix {
        var source = stream(number)
        return Matrix(rows: count, columns: dimension) { values in
            for row in 0..<count { source.write(&values, at: row * dimension) }
        }
    }

    /// One vector after the other.
    struct Stream {
        fileprivate let centers: Matrix
        fileprivate var random: GaussianRandom

        /// The next `count` vectors, row by row.
        mutating func next(_ count: Int) -> [Float] {
            var values = [Float](repeating: 0, count: count * centers.columns)
            var span = values.mutableSpan
            for row in 0..<count { write(&span, at: row * centers.columns) }
            return values
        }

        fileprivate mutating func write(_ values: inout MutableSpan<Float>, at start: Int) {
            let center = min(
                Int(random.uniform() * Double(Workload.centerCount)), Workload.centerCount - 1)
            var square: Float = 0
            for j in 0..<centers.columns {
                let x = centers[center, j] + Workload.deviation * random.next()
                values[start + j] = x
                square += x * x
            }
            let scale = 1 / max(square.squareRoot(), 1e-12)
            for j in 0..<centers.columns { values[start + j] *= scale }
        }
    }
}

/// Normal deviates by the polar method (Marsaglia & Bray 1964) over SplitMix64.
struct GaussianRandom {
    private var state: UInt64
    private var spare: Float?

    init(seed: UInt64) { state = seed }

    /// Mean 0, deviation 1.
    mutating func next() -> Float {
        if let spare {
            self.spare = nil
            return spare
        }
        while true {
            let u = 2 * uniform() - 1
            let v = 2 * uniform() - 1
            let s = u * u + v * v
            guard s > 0, s < 1 else { continue }
            let factor = (-2 * naturalLogarithm(s) / s).squareRoot()
            spare = Float(v * factor)
            return Float(u * factor)
        }
    }

    /// In 0..<1.
    mutating func uniform() -> Double {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Double((z ^ (z >> 31)) >> 11) * 0x1p-53
    }
}
