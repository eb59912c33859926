import Kernels
import RecCore
import Retrieval

/// How often items were in events lately: decayed counts by item id, of all users and of those with one value
/// of a feature.
///
/// An event's weight halves every half-life. Weights are kept as of one moment, the landmark, so that time
/// passing changes none of them: a younger event counts for more from the start.
struct PopularityCounter: Sendable {
    /// Most items counted; beyond, the lighter half is forgotten.
    static let itemsMaximum = 262_144
    /// Most values of the feature that are counted, the first to come, and items of each.
    static let valuesMaximum = 64
    static let valueItemsMaximum = 16_384
    /// Counts below this are as good as none.
    static let countMinimum = 1.0 / 1024
    /// Half-lives after which the landmark is moved, long before weights leave the range of numbers.
    private static let landmarkAge = 500.0

    /// Seconds.
    let halfLife: Double
    private var landmark: Double?
    private var all = Table(maximum: itemsMaximum)
    private var byValue: [String: Table] = [:]

    /// Nothing counted; `halfLife` > 0.
    init(halfLife: Double) { self.halfLife = halfLife }

    /// Weights by item, as of the landmark.
    struct Table: Sendable {
        let maximum: Int
        private(set) var weights: [String: Double] = [:]

        init(maximum: Int) { self.maximum = maximum }

        /// Adds to an item's weight, or takes from it: what is left of rounding is nothing.
        mutating func add(_ weight: Double, to item: String) {
            let sum = weights[item, default: 0] + weight
            guard weight < 0 else {
                weights[item] = sum
                if weights.count > maximum { forgetLighterHalf() }
                return
            }
            // A millionth: sums of doubles are that exact by far, and no event is counted so low.
            weights[item] = sum > -weight * 1e-6 ? sum : nil
        }

        mutating func scale(by factor: Double) {
            weights = weights.mapValues { $0 * factor }.filter { $0.value > 1e-12 }
        }

        private mutating func forgetLighterHalf() {
            let sorted = weights.sorted { $0.value > $1.value }
            weights = Dictionary(uniqueKeysWithValues: sorted.prefix(maximum / 2).map { ($0.key, $0.value) })
        }
    }

    /// Items that are counted, of all users.
    var itemCount: Int { all.weights.count }
    /// Values of the feature that are counted.
    var values: [String] { Array(byValue.keys) }

    /// Counts an event, or no longer.
    /// - Parameters:
    ///   - time: of the event, Unix seconds; one after `now` counts as of now.
    ///   - value: of its user's feature, if that is known.
    mutating func count(
        _ item: String, at time: Double, value: String?, now: Double, isRemoval: Bool = false
    ) {
        let time = min(time, now)
        moveLandmark(to: time)
        let weight = power(2, (time - (landmark ?? time)) / halfLife) * (isRemoval ? -1 : 1)
        // So long ago that it is no number.
        guard weight != 0 else { return }
        all.add(weight, to: item)
        guard let value, byValue[value] != nil || byValue.count < Self.valuesMaximum else { return }
        byValue[value, default: Table(maximum: Self.valueItemsMaximum)].add(weight, to: item)
    }

    private mutating func moveLandmark(to time: Double) {
        guard let landmark else { return self.landmark = time }
        guard (time - landmark) / halfLife > Self.landmarkAge else { return }
        let factor = power(2, (landmark - time) / halfLife)
        all.scale(by: factor)
        for value in byValue.keys { byValue[value]?.scale(by: factor) }
        self.landmark = time
    }

    /// The counts as of `now` that matter, in no order.
    /// - Parameter value: of the feature; nil for all users.
    func counts(value: String? = nil, now: Double) -> [(item: String, count: Double)] {
        guard let landmark, let table = value == nil ? all : value.flatMap({ byValue[$0] }) else { return [] }
        let factor = power(2, (landmark - now) / halfLife)
        return table.weights.compactMap { item, weight in
            let count = weight * factor
            return count >= Self.countMinimum ? (item, count) : nil
        }
    }
}

/// One version's popularity, with events.
struct CountedPopularity: Sendable {
    /// For users of whose value nothing was counted.
    private(set) var general = Popularity()
    private(set) var byValue: [String: Popularity] = [:]

    /// The weight of the bundle's word: with this many events of the most frequent item, events add half of
    /// what they can.
    static let damping = 100.0

    /// The bundle's own.
    init() {}

    /// An item's popularity is p + r·c/(c_max + 100), and where its user's value is known
    /// + 2·r·v/(v_max + 100): p the bundle's and r the range of all p (1 where they are the same), c the
    /// count of the item and c_max the largest one, v and v_max the same of the value's events.
    init(_ counter: PopularityCounter, _ catalog: ItemCatalog, now: Double) {
        let range = Self.range(of: catalog)
        var layer: [(row: UInt32, score: Double)] = []
        var added: [UInt32: Double] = [:]
        for (row, share) in Self.shares(counter.counts(now: now), catalog) {
            added[row] = range * share
            layer.append((row, Double(catalog.popularity[0, Int(row)]) + range * share))
        }
        let general = PopularityLayer(layer)
        self.general = Popularity([general])
        for value in counter.values {
            let shares = Self.shares(counter.counts(value: value, now: now), catalog)
            guard !shares.isEmpty else { continue }
            let own = shares.map { row, share in
                let score = Double(catalog.popularity[0, Int(row)]) + added[row, default: 0]
                return (row, score + 2 * range * share)
            }
            byValue[value] = Popularity([PopularityLayer(own), general])
        }
    }

    private static func shares(
        _ counts: [(item: String, count: Double)], _ catalog: ItemCatalog
    ) -> [(row: UInt32, share: Double)] {
        let known = counts.compactMap { item, count in
            catalog.row(of: item).map { (UInt32(truncatingIfNeeded: $0), count) }
        }
        let largest = known.reduce(0) { max($0, $1.1) }
        return known.map { ($0, $1 / (largest + damping)) }
    }

    /// The difference between the largest and the smallest popularity of a catalogue, 1 where there is none.
    static func range(of catalog: ItemCatalog) -> Double {
        guard let first = catalog.popularOrder.first, let last = catalog.popularOrder.last else { return 1 }
        let range = Double(catalog.popularity[0, Int(first)]) - Double(catalog.popularity[0, Int(last)])
        return range > 0 && range.isFinite ? range : 1
    }

    /// What is popular with users who have this value.
    func popularity(of value: String?) -> Popularity { value.flatMap { byValue[$0] } ?? general }

    /// A feature as the values that are counted; nil for a missing or multiple one.
    static func value(_ feature: FeatureValue?) -> String? {
        switch feature {
        case .string(let text): text
        case .number(let number): "\(number)"
        case .boolean(let flag): "\(flag)"
        case .strings(let list) where list.count == 1: list[0]
        default: nil
        }
    }
}
