internal import Kernels

/// A row and its score.
public struct Neighbor: Sendable, Equatable {
    /// Catalogue row.
    public let row: Int
    /// By the metric of the search; larger is closer.
    public let score: Float

    /// A row at a score.
    public init(row: Int, score: Float) {
        self.row = row
        self.score = score
    }
}

/// What one thread's searches write to: the neighbours found, best first, and scratch that is reused.
///
/// Grows to the largest search and then allocates no more. For one thread.
public final class NeighborBuffer {
    /// Neighbours as sort keys, the score's bits falling above the row: ascending keys are best first, ties
    /// by row.
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

    /// Takes the first `length` of `rows` and `scores` as neighbours, unsorted; only finite scores are taken.
    func take(_ length: Int) {
        count = 0
        for i in 0..<length where scores[i].isFinite {
            keys[count] = Self.pack(row: rows[i], score: scores[i])
            count += 1
        }
    }

    /// Adds the first `length` of `rows` and `scores` and keeps the best `k`; needs room for `k + length`
    /// neighbours.
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
        Self.sort(&keys, 0, count - 1)
    }

    /// Moves the first `length` labels to `rows`, with their scores, without the −1 of padding and anything
    /// not below `limit`.
    func takeLabels(_ length: Int, below limit: Int, negated: Bool) -> Int {
        var found = 0
        for i in 0..<length where labels[i] >= 0 && labels[i] < Int64(limit) {
            rows[found] = UInt32(truncatingIfNeeded: labels[i])
            scores[found] = negated ? -scores[i] : scores[i]
            found += 1
        }
        return found
    }

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

    /// Moves the `k` smallest of the first `length` keys to the front, by Hoare's selection.
    private static func select(_ keys: inout [UInt64], _ k: Int, in length: Int) {
        var low = 0
        var high = length - 1
        while low < high {
            let (left, right) = partition(&keys, low, high)
            if k <= left { high = left } else if k >= right { low = right } else { return }
        }
    }

    /// Sorts in place; `Array.sort` of a slice would copy it.
    private static func sort(_ keys: inout [UInt64], _ first: Int, _ last: Int) {
        var low = first
        var high = last
        // 16: below it insertion is quicker than partition.
        while high - low > 16 {
            let (left, right) = partition(&keys, low, high)
            // The smaller part first, so that the recursion is at most log₂ deep.
            if left - low < high - right {
                sort(&keys, low, left)
                low = right
            } else {
                sort(&keys, right, high)
                high = left
            }
        }
        guard low < high else { return }
        for i in low + 1...high {
            let key = keys[i]
            var at = i
            while at > low, keys[at - 1] > key {
                keys[at] = keys[at - 1]
                at -= 1
            }
            keys[at] = key
        }
    }

    /// Splits `low...high` by a pivot: nothing in `low...left` is above anything in `right...high`; left <
    /// right.
    private static func partition(_ keys: inout [UInt64], _ low: Int, _ high: Int) -> (left: Int, right: Int)
    {
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
        return (j, i)
    }

    private static func median(_ a: UInt64, _ b: UInt64, _ c: UInt64) -> UInt64 {
        max(min(a, b), min(max(a, b), c))
    }
}
