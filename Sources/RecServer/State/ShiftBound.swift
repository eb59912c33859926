/// Keeps the items of a page near the places that they had on the page before.
enum ShiftBound {
    /// The page's places, each with the one of the items that stands there: of all orders in which nothing
    /// that was on the page before moves more than `limit` places, the one that is best from the top, that is
    /// the first by the items' given order.
    ///
    /// Fixed items keep their places and win: where they leave no such order, the limit is the least larger one
    /// that does. What stood behind the end of this page before may stand anywhere.
    ///
    /// - Parameters:
    ///   - previous: by item, in the order it would have; its place before, different for each, or nil.
    ///   - isFixed: by item.
    static func order(previous: [Int?], isFixed: [Bool], limit: Int) -> [Int] {
        var order = Array(previous.indices)
        let places = order.filter { !isFixed[$0] }
        let items = places.map { item in
            Item(rank: item, place: previous[item].flatMap { $0 < order.count ? $0 : nil })
        }
        guard items.contains(where: { $0.place != nil }) else { return order }
        // At a distance of the whole page everything is allowed.
        for limit in limit...max(limit, order.count) {
            var schedule = Schedule(items, places, limit)
            guard let chosen = schedule.run() else { continue }
            for (place, rank) in zip(places, chosen) { order[place] = rank }
            break
        }
        return order
    }

    private struct Item {
        let rank: Int
        /// On the page before.
        let place: Int?
    }

    /// Unit jobs with release times and deadlines, of which the earliest deadline is also the earliest release:
    /// they can all be done if they can in the order of their deadlines.
    private struct Schedule {
        private struct Bound {
            let rank: Int
            let earliest: Int
            let latest: Int
        }
        /// By old place, thereby by earliest and by latest.
        private var bound: [Bound]
        /// Those that may stand anywhere, the best last.
        private var others: [Int]
        private let count: Int

        /// - Parameter places: the page's that are to be filled, ascending; times are indices into it.
        init(_ items: [Item], _ places: [Int], _ limit: Int) {
            count = places.count
            others = items.filter { $0.place == nil }.map(\.rank).reversed()
            bound = items.compactMap { item in item.place.map { (item.rank, $0) } }
                .sorted { $0.1 < $1.1 }
                .map { rank, place in
                    Bound(
                        rank: rank, earliest: places.firstIndex { $0 >= place - limit } ?? places.count,
                        latest: (places.lastIndex { $0 <= place + limit } ?? -1))
                }
        }

        /// The ranks in display order; nil when there is no order within the bounds.
        mutating func run() -> [Int]? {
            guard tight(at: 0) != nil else { return nil }
            var order: [Int] = []
            for time in 0..<count {
                guard let allowed = tight(at: time) else { return nil }
                let best = bound.indices.prefix(allowed.count).filter { bound[$0].earliest <= time }
                    .min { bound[$0].rank < bound[$1].rank }
                let other = allowed.mayWait ? others.last : nil
                switch (best, other) {
                case (let index?, let rank) where rank.map { bound[index].rank < $0 } ?? true:
                    order.append(bound.remove(at: index).rank)
                case (_, _?): order.append(others.removeLast())
                default: return nil
                }
            }
            return order
        }

        /// Done by deadlines from `time` on: how many of the first may be chosen now, and whether all may
        /// wait for one that has no bound; nil when a deadline is missed.
        ///
        /// Whatever is chosen now delays those before it by one. Where the first that has no time to lose follows
        /// the others without a gap, it or one before it must be chosen.
        private func tight(at time: Int) -> (count: Int, mayWait: Bool)? {
            var end = time
            var isDelayed = true
            var tight: Int?
            for (index, job) in bound.enumerated() {
                if job.earliest > end { (end, isDelayed) = (job.earliest, false) }
                guard end <= job.latest, end < count else { return nil }
                if isDelayed, end == job.latest, tight == nil { tight = index }
                end += 1
            }
            return tight.map { ($0 + 1, false) } ?? (bound.count, true)
        }
    }
}
