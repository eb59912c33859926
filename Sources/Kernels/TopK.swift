/// The k best scored rows seen so far, in a bounded heap.
///
/// The order is total: higher score first, NaN after every number, equal scores by lower row. Not for sharing
/// between threads.
public struct TopK {
    /// A row and its score.
    public struct Entry: Sendable, Equatable {
        /// What was scored, as the caller numbers it; breaks ties.
        public let row: Int
        /// Larger is better; NaN is worst.
        public let score: Float

        /// An entry of that row and score.
        public init(row: Int, score: Float) {
            self.row = row
            self.score = score
        }

        /// Whether this entry comes before `other`.
        @inlinable
        public func precedes(_ other: Entry) -> Bool {
            if score > other.score { return true }
            if score < other.score { return false }
            if score.isNaN != other.score.isNaN { return other.score.isNaN }
            return row < other.row
        }
    }

    private var heap: [Entry] = []  // the worst kept entry is at 0
    private let capacity: Int

    /// An empty selection of at most `k` ≥ 0 entries; allocates once.
    public init(_ k: Int) {
        precondition(k >= 0, "k = \(k)")
        capacity = k
        heap.reserveCapacity(k)
    }

    /// Entries kept so far.
    public var count: Int { heap.count }

    /// Offers an entry; O(log k).
    public mutating func insert(row: Int, score: Float) {
        let entry = Entry(row: row, score: score)
        if heap.count < capacity {
            heap.append(entry)
            siftUp()
        } else if capacity > 0, entry.precedes(heap[0]) {
            heap[0] = entry
            siftDown()
        }
    }

    /// The kept entries, best first.
    public func sorted() -> [Entry] { heap.sorted { $0.precedes($1) } }

    private mutating func siftUp() {
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[parent].precedes(heap[child]) else { return }
            heap.swapAt(parent, child)
            child = parent
        }
    }

    private mutating func siftDown() {
        var parent = 0
        while true {
            var worst = parent
            let left = 2 * parent + 1
            let right = left + 1
            if left < heap.count, heap[worst].precedes(heap[left]) { worst = left }
            if right < heap.count, heap[worst].precedes(heap[right]) { worst = right }
            guard worst != parent else { return }
            heap.swapAt(parent, worst)
            parent = worst
        }
    }
}
