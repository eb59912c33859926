internal import ArgumentParser

/// Sizes of a reference bundle.
struct ReferenceShape {
    /// The named workloads.
    enum Name: String, CaseIterable, ExpressibleByArgument {
        /// A million items, 256 events, 500 candidates.
        case ref1M = "ref-1m"
        /// The same with 2,048 events and 1,000 candidates.
        case refLong = "ref-long"
        /// The same with lognormal(0.6) norms of the item vectors.
        case refNorm = "ref-norm"
        /// Ten million items.
        case ref10M = "ref-10m"
        /// Seconds to write and to index.
        case small
    }

    var items = 1_000_000
    var users = 100_000
    /// Events that the sequence model sees, and that every user has.
    var events = 256
    var candidates = 500
    var hasNorms = false

    static let dimension = 64
    static let subquantizers = 32
    static let shortlistFactor = 4
    static let sequenceDimension = 128
    static let heads = 4
    static let layers = 4
    static let windowBlock = 32
    static let actions = ["unknown", "click", "like", "buy"]
    static let crossLayers = 3
    static let deep = [256, 128]
    static let tasks = ["click", "like", "buy"]
    static let taskWeights: [Double] = [1, 2, 5]
    static let countries = (0..<40).map { "country-\($0)" }
    static let categories = (0..<60).map { "category-\($0)" }
    static let tags = (0..<200).map { "tag-\($0)" }
    static let brands = 5_000
    static let brandBuckets = 1_024
    static let devices = ["console", "desktop", "phone", "tablet", "television"]
    static let hours: [Double] = [3, 6, 9, 12, 15, 18, 21]
    static let ages: [Double] = [18, 25, 32, 40, 50, 65]
    /// Time of every request; histories end before it.
    static let now = 1_760_000_000.0

    init(_ name: Name) {
        switch name {
        case .ref1M: break
        case .refLong: (events, candidates) = (2_048, 1_000)
        case .refNorm: hasNorms = true
        case .ref10M: items = 10_000_000
        case .small: (items, users) = (20_000, 2_000)
        }
    }

    /// 4·√items to the next power of two: 4,096 for a million.
    var lists: Int {
        var lists = 1
        while lists * lists < 16 * items { lists *= 2 }
        return lists
    }

    /// Lists scanned per query: twice as many codes as the shortlist keeps, 16 lists for a million items.
    var probes: Int {
        let codes = 2 * Self.shortlistFactor * candidates
        return min(lists, max(1, (codes * lists + items / 2) / items))
    }

    /// The constant that attention is divided by.
    var normalizer: Int { events + 1 }
}
