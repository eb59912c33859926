import Kernels
import Ranking
import Retrieval

/// The items of a slate behind its first page, by catalogue row: in their order, or with what it takes to
/// order them.
///
/// The order is the one that goes on where the first page ends: by score, or by diversity towards everything
/// chosen before. Caps count anew every so many places as the first page had, so that what they kept off one
/// page stands on a later one.
struct SlateTail: Sendable {
    /// What an order other than by score is made with.
    struct Rules: Sendable {
        /// How many of the list diversity orders; the others, which the user has ignored, come after them.
        let wanted: Int
        /// Places of the list that the first page took.
        let shown: [Int]
        /// Items to order at most.
        let places: Int
        /// Places for which caps count.
        let segment: Int
        let diversity: Double
        let placement: Placement?
    }

    private(set) var rows: [UInt32]
    private(set) var scores: [Double]
    /// Nil once the rows are in their order.
    private(set) var rules: Rules?
    /// Places, ascending, at which a page ends though it is not full: caps left no more for it.
    private(set) var breaks: [Int] = []

    /// - Parameter list: rows with scores, best first; with `rules` the first page's are among them.
    init(_ list: [(row: Int, score: Double)], rules: Rules? = nil) {
        rows = list.map { UInt32(truncatingIfNeeded: $0.row) }
        scores = list.map(\.score)
        self.rules = rules
    }

    /// Bytes that it takes in memory.
    var byteCount: Int { 12 * rows.count + 8 * (breaks.count + (rules?.shown.count ?? 0)) }

    /// The items in their order.
    func ordered(_ vectors: MatrixView, _ catalog: ItemCatalog) -> SlateTail {
        guard let rules else { return self }
        var tail = self
        var order: [Int] = []
        var list = Diversity(
            scores: Array(scores.prefix(rules.wanted)), rows: rows.prefix(rules.wanted).map(Int.init),
            vectors: vectors, diversity: rules.diversity)
        list.adopt(rules.shown.filter { $0 < rules.wanted })
        let ignored = rules.wanted..<rows.count
        var others = Diversity(
            scores: Array(scores[ignored]), rows: rows[ignored].map(Int.init), vectors: vectors, diversity: 0)
        others.adopt(rules.shown.filter { $0 >= rules.wanted }.map { $0 - rules.wanted })
        while order.count < rules.places {
            var caps = rules.placement.flatMap { CapCounter($0, catalog) }
            let isCapped = caps != nil
            let wanted = min(isCapped ? rules.segment : rules.places, rules.places - order.count)
            var segment = list.take(wanted) { caps?.admit(Int(rows[$0])) ?? true }
            segment += others.take(wanted - segment.count) {
                caps?.admit(Int(rows[rules.wanted + $0])) ?? true
            }
            .map { $0 + rules.wanted }
            order += segment
            // Without an item of a segment there is none in the next.
            if segment.isEmpty { break }
            if isCapped, segment.count < wanted { tail.breaks.append(order.count) }
        }
        tail.rows = order.map { rows[$0] }
        tail.scores = order.map { scores[$0] }
        tail.rules = nil
        return tail
    }
}
