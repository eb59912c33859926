public import RecCore

/// One event of a user as it is kept.
public struct StoredEvent: Sendable, Equatable {
    /// The item as the caller names it; the catalogue of the day need not know it.
    public var itemID: String
    /// What the user did; nil when the caller did not say.
    public var action: String?
    /// Unix seconds: the caller's, or the server's clock when it arrived.
    public var time: Double
    /// The caller's, unique per user; made by the server where there was none.
    public var eventID: String
    /// A rating, a price, a duration: kept for training.
    public var value: Double?
    /// The slate the event answers.
    public var recommendationID: String?
    /// Place of the item on that slate, from 0.
    public var position: Int?

    /// An event; what is not given is unknown.
    public init(
        itemID: String, action: String? = nil, time: Double, eventID: String, value: Double? = nil,
        recommendationID: String? = nil, position: Int? = nil
    ) {
        self.itemID = itemID
        self.action = action
        self.time = time
        self.eventID = eventID
        self.value = value
        self.recommendationID = recommendationID
        self.position = position
    }
}

/// All that is held of one user, at one moment.
///
/// Arrays are shared, not copied: taking one out of the cache costs a reference.
public struct StoredUser: Sendable, Equatable {
    /// The user's id.
    public var id: String
    /// Grows with every change of this user, also over erasure and return.
    public var sequence: Int64
    /// Events of the whole history, also those that are no longer kept.
    public var total: Int
    /// Kept events, oldest first by time, then by arrival.
    public var events: [StoredEvent]
    /// Features for the tower and the ranker.
    public var features: FeatureValues
    /// Whether events may be kept and the history used.
    public var hasConsent: Bool
    /// Whether the user was erased once: what a bundle knows of the id is not used then.
    public var isErased: Bool

    /// Where the store has it.
    var place = StorePlace()

    /// A user of whom nothing is known unless given.
    public init(
        id: String, sequence: Int64 = 0, total: Int = 0, events: [StoredEvent] = [],
        features: FeatureValues = [:], hasConsent: Bool = true, isErased: Bool = false
    ) {
        self.id = id
        self.sequence = sequence
        self.total = total
        self.events = events
        self.features = features
        self.hasConsent = hasConsent
        self.isErased = isErased
    }
}

/// Where a store has a user; says nothing about the user.
struct StorePlace: Sendable, Equatable {
    /// Key of the user's row; nil where there is none, or it is unknown.
    var key: Int64?
    /// When the first of the event ids came that are remembered.
    var remembered: Double?

    static func == (left: Self, right: Self) -> Bool { true }
}
