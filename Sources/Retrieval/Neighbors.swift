internal import Kernels

/// A row and its score.
public struct Neighbor: Sendable, Equatable {
    /// Catalogue row.
    public let row: Int
    /// By the metric of the search; larger is closer.
    public let score: Float

    public init(row: Int, score: Float) {
        self.row = row
        self.score = score
    }
}

/// What one thread's searches write to: the neighbours found, best first, and scratch that is reused.
///
/// Grows to the largest search and then allocates no more. For one thread.
public final class NeighborBuffer {
    /// Neighbours packed as sort keys: the score's bits, falling, above the row. Ascending keys are best first, ties by row.
    private var keys: [UInt64] = []
    /// Neighbours in `keys` that are valid.
    public private(set) var count = 0

    // Scratch of the indexes.
    var rows: [UInt32] = []
    var scores: [Float] = []
    var labels: [Int64] = []
    var scratchQuery: MutableMatrix?  // [1, dimension]

    /// Room for `capacity` neighbours before the first growth.
    public init(capacity: Int = 0) { reserve(capacity) }

    /// The neighbour at `position`, 0 the best; traps when out of range.
    public subscript(position: Int) -> Neighbor {
        precondition(position >= 0 && position < count, "neighbour \(position) of \(count)")
        return Self.unpack(keys[position])
    }

    /// A copy of the neighbours.
    public var all: [Neighbor] { keys[0..<count].map(Self.unpack) }

    /// Makes all scratch at least `size` long.
    func reserve(_ size: Int) {
        guard keys.count < size else { return }
        keys.append(contentsOf: repeatElement(0, count: size - keys.count))
        rows.append(contentsOf: repeatElement(0, count: size - rows.count))
        scores.append(contentsOf: repeatElement(0, count: size - scores.count))
        labels.append(contentsOf: repeatElement(-1, count: size - labels.count))
    }

    func clear() { count = 0 }

    /// Takes over the first `length` of `rows` and `scores` as neighbours, unsorted; those without a finite score are left out.
    func take(_ length: Int) {
        count = 0
        for i in 0..<length where scores[i].isFinite {
            keys[count] = Self.pack(row: rows[i], score: scores[i])
            count += 1
        }
    }

    /// Adds the first `length` of `rows` and `scores` and keeps the best `k`; needs room for `k + length` neighbours.
    func merge(_ length: Int, keeping k: Int) {
        for i in 0..<length where scores[i].isFinite {
            keys[count] = Self.pack(row: rows[i], score: scores[i])
            count += 1
        }
        if count > k {
            Self.select(&keys, k, in: count)
            count = k
        }
    }

    /// Sorts and keeps the best `k`.
    func finish(keeping k: Int) {
        if count > k {
            Self.select(&keys, k, in: count)
            count = k
        }
        keys[0..<count].sort()
    }

    /// Copies the neighbours' rows to `rows`, in order.
    func copyRows() { for i in 0..<count { rows[i] = UInt32(truncatingIfNeeded: keys[i]) } }

    private static func pack(row: UInt32, score: Float) -> UInt64 {
        let bits = (score + 0).bitPattern  // + 0 makes −0 and 0 one key
        let rising = bits >> 31 == 0 ? bits | 0x8000_0000 : ~bits
        return UInt64(~rising) << 32 | UInt64(row)
    }

    private static func unpack(_ key: UInt64) -> Neighbor {
        let rising = ~UInt32(truncatingIfNeeded: key >> 32)
        let bits = rising >> 31 == 1 ? rising & 0x7FFF_FFFF : ~rising
        return Neighbor(row: Int(UInt32(truncatingIfNeeded: key)), score: Float(bitPattern: bits))
    }

    /// Moves the `k` smallest of the first `length` keys to the front (Hoare's selection; keys differ by row, so it ends).
    private static func select(_ keys: inout [UInt64], _ k: Int, in length: Int) {
        var low = 0
        var high = length - 1
        while low < high {
            let pivot = median(keys[low], keys[low + (high - low) / 2], keys[high])
            var i = low
            var j = high
            while i <= j {
                while keys[i] < pivot { i += 1 }
                while keys[j] > pivot { j -= 1 }
                if i <= j {
                    keys.swapAt(i, j)
                    i += 1
                    j -= 1
                }
            }
            if k <= j { high = j } else if k >= i { low = i } else { return }
        }
    }

    private static func median(_ a: UInt64, _ b: UInt64, _ c: UInt64) -> UInt64 { max(min(a, b), min(max(a, b), c)) }
}
