public import RecCore

/// A named profile of a page: what it weighs, where its candidates come from and what its rules are
/// (ModelFormat.md §3.6).
public struct PlacementConfiguration: Sendable {
    /// Most placements of a bundle.
    public static let countMaximum = 64
    /// Most pinned items of a placement, all groups together.
    public static let pinMaximum = 100
    /// Most boosts of a placement.
    public static let boostMaximum = 32
    /// Most caps of a placement.
    public static let capMaximum = 8

    /// Items at fixed places of the page.
    public struct Pin: Sendable, Equatable {
        /// Place of the first item, from 1; the others follow it.
        public let position: Int
        /// Ids in display order.
        public let itemIDs: [String]

        /// Items from `position` on.
        public init(position: Int, itemIDs: [String]) {
            self.position = position
            self.itemIDs = itemIDs
        }
    }

    /// A change of the score of matching items.
    public struct Boost: Sendable {
        /// Which items.
        public let filter: ItemFilter
        /// Above 1 lifts and below 1 buries, also a negative score; 1 leaves it.
        public let factor: Double
        /// Added to a score of the value model.
        public let add: Double

        /// A boost of what passes `filter`.
        public init(filter: ItemFilter, factor: Double = 1, add: Double = 0) {
            self.filter = filter
            self.factor = factor
            self.add = add
        }
    }

    /// Most items of a page with the same value of an attribute.
    public struct Cap: Sendable, Equatable {
        /// A filterable attribute's name.
        public let attribute: String
        /// Items per value.
        public let maximum: Int

        /// At most `maximum` items per value of `attribute`.
        public init(attribute: String, maximum: Int) {
            self.attribute = attribute
            self.maximum = maximum
        }
    }

    /// `[A-Za-z0-9._-]{1,64}`, unique in the bundle.
    public let name: String
    /// Weights of the value model by task, over the bundle's.
    public var weights: [String: Double] = [:]
    /// Quotas in place of the bundle's for the sources it names.
    public var quotas: [CandidateSources: Int] = [:]
    /// What every item must pass, beside the request's own filter.
    public var filter: ItemFilter?
    /// Fixed places; no place and no item twice.
    public var pins: [Pin] = []
    /// All that match an item change its score.
    public var boosts: [Boost] = []
    /// All of them hold.
    public var caps: [Cap] = []
    /// Maximal marginal relevance, 0…1; nil leaves it to the request.
    public var diversity: Double?

    /// A placement without rules.
    public init(name: String) { self.name = name }
}

/// An experiment: arms that users fall into by a stable hash (ModelFormat.md §3.7).
public struct ExperimentConfiguration: Sendable {
    /// Most arms.
    public static let variantMaximum = 32
    /// Largest share of an arm.
    public static let shareMaximum = 1_000_000

    /// One arm.
    public struct Variant: Sendable {
        /// `[A-Za-z0-9._-]{1,64}`, unique in the experiment.
        public let name: String
        /// Its part of the users, relative to the sum of all; an arm of 0 is reached by name alone.
        public let share: Int
        /// Placement of requests that name none.
        public let placement: String?
        /// Weights of the value model by task, over the placement's.
        public let weights: [String: Double]

        /// An arm.
        public init(name: String, share: Int, placement: String? = nil, weights: [String: Double] = [:]) {
            self.name = name
            self.share = share
            self.placement = placement
            self.weights = weights
        }
    }

    /// Hashed before the user id: another salt draws the users anew.
    public let salt: String
    /// The arms in their order; the sum of the shares is above 0.
    public let variants: [Variant]

    /// An experiment of these arms.
    public init(salt: String, variants: [Variant]) {
        self.salt = salt
        self.variants = variants
    }

    /// The arm of a user: with h the first 8 bytes, big-endian, of SHA-256(salt, a zero byte, user id) and S
    /// the sum of the shares, the one in whose part of 0..<S the number ⌊h · S / 2⁶⁴⌋ falls.
    public func variant(of userID: String) -> Variant? {
        let digest = Digest.sha256(Array(salt.utf8) + [0] + Array(userID.utf8))
        let hash = UInt64(digest.prefix(16), radix: 16) ?? 0
        let total = variants.reduce(0) { $0 + $1.share }
        var place = Int(hash.multipliedFullWidth(by: UInt64(clamping: total)).high)
        for variant in variants {
            if place < variant.share { return variant }
            place -= variant.share
        }
        return nil
    }
}
