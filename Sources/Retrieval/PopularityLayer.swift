internal import Kernels

/// Items with another popularity than the catalogue's; the others keep theirs. Frozen.
public struct PopularityLayer: Sendable {
    /// Ascending.
    private let rows: [UInt32]
    /// Of `rows`.
    private let scores: [Double]
    /// The same rows, the most popular first, ties by row.
    let order: [UInt32]

    /// A layer of different rows with their popularity.
    public init(_ items: [(row: UInt32, score: Double)]) {
        let sorted = items.sorted { $0.row < $1.row }
        rows = sorted.map(\.row)
        scores = sorted.map(\.score)
        order = sorted.sorted { ($1.score, $0.row) < ($0.score, $1.row) }.map(\.row)
    }

    /// Rows in the layer.
    public var count: Int { rows.count }

    /// The popularity of a row; nil when it keeps the catalogue's. Looks at log₂ of the layer's rows.
    public func score(_ row: UInt32) -> Double? {
        var (low, high) = (0, rows.count)
        while low < high {
            let middle = (low + high) / 2
            if rows[middle] < row { low = middle + 1 } else { high = middle }
        }
        return low < rows.count && rows[low] == row ? scores[low] : nil
    }
}

/// What is popular now: the catalogue's popularity under layers of which the first that has a row counts.
///
/// Frozen; a request takes it once.
public struct Popularity: Sendable {
    private let layers: [PopularityLayer]

    /// The catalogue's own under `layers`; without any, that alone.
    public init(_ layers: [PopularityLayer] = []) { self.layers = layers.filter { $0.count > 0 } }

    /// The popularity of a row; traps when it is not one of the catalogue's.
    public func score(_ row: Int, in catalog: ItemCatalog) -> Double {
        for layer in layers {
            if let score = layer.score(UInt32(truncatingIfNeeded: row)) { return score }
        }
        return Double(catalog.popularity[0, row])
    }

    /// All rows of `catalog`, the most popular first, ties by row, until `body` says false.
    public func walk(_ catalog: ItemCatalog, _ body: (UInt32) -> Bool) {
        guard !layers.isEmpty else {
            for row in catalog.popularOrder { guard body(row) else { return } }
            return
        }
        var heads = layers.indices.map { Head(layers[$0].order, hidden: layers[..<$0]) }
        heads.append(Head(catalog.popularOrder, hidden: layers[...]))
        for index in heads.indices { heads[index].skipHidden() }
        while true {
            var best: (index: Int, row: UInt32, score: Double)?
            for (index, head) in heads.enumerated() {
                guard let row = head.row else { continue }
                let score =
                    index < layers.count
                    ? layers[index].score(row) ?? 0 : Double(catalog.popularity[0, Int(row)])
                if let best, (best.score, row) > (score, best.row) { continue }
                best = (index, row, score)
            }
            guard let best, body(best.row) else { return }
            heads[best.index].position += 1
            heads[best.index].skipHidden()
        }
    }

    /// The next row of one order, without those that an earlier layer has.
    private struct Head {
        let order: [UInt32]
        let hidden: ArraySlice<PopularityLayer>
        var position = 0

        init(_ order: [UInt32], hidden: ArraySlice<PopularityLayer>) {
            self.order = order
            self.hidden = hidden
        }

        var row: UInt32? { position < order.count ? order[position] : nil }

        mutating func skipHidden() {
            while let row, hidden.contains(where: { $0.score(row) != nil }) { position += 1 }
        }
    }
}
