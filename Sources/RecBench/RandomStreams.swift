internal import Kernels

/// Ranks with Zipf's law of exponent 1: rank r as often as 1/r.
struct ZipfRanks {
    let count: Int
    /// Prime to `count`: ranks are scattered over the rows, so that neither ids nor places tell popularity.
    private let factor: Int

    /// Over `count` ≥ 1 ranks.
    init(count: Int) {
        self.count = count
        var factor = 2_654_435_761 % max(count, 2)
        while Self.divisor(factor, count) != 1 { factor += 1 }
        self.factor = factor
    }

    /// The rank 0..<count of a uniform number: its logarithm is uniform, as the harmonic numbers grow.
    func rank(_ uniform: Double) -> Int {
        min(count - 1, max(0, Int(power(Double(count) + 1, uniform)) - 1))
    }

    /// The row with that rank.
    func row(rank: Int) -> Int { (rank * factor) % count }

    private static func divisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : divisor(b, a % b) }
}

extension GaussianRandom {
    /// A stream of its own for each name: adding a tensor changes no other.
    init(seed: UInt64, name: String) {
        var hash: UInt64 = 14_695_981_039_346_656_037
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 1_099_511_628_211 }
        self.init(seed: seed ^ hash)
    }

    /// `count` normal deviates of this spread.
    mutating func normals(_ count: Int, deviation: Float) -> [Float] {
        (0..<count).map { _ in deviation * next() }
    }

    /// An integer in 0..<limit.
    mutating func integer(below limit: Int) -> Int { min(limit - 1, Int(uniform() * Double(limit))) }
}
