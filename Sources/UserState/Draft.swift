internal import RecCore

/// A string compared byte by byte: Swift's own comparison takes different ids for one where Unicode does.
struct ExactString: Hashable, Sendable {
    let bytes: [UInt8]

    init(_ text: String) { bytes = Array(text.utf8) }
}

/// A user as a transaction is about to leave it.
struct Draft {
    /// The row's key; nil for a user who has none.
    var key: Int64?
    /// Whether the row is in the table already.
    var isStored: Bool
    var sequence: Int64
    var total: Int
    /// Events in the table.
    var kept: Int
    /// Time of the newest of them.
    var newest: Double?
    var features: FeatureValues
    var hasConsent: Bool
    var isErased: Bool
    /// Whether the row must be written.
    var isChanged = false
    /// All that is held, where it is known without reading it: nil once it is not.
    var events: [StoredEvent]?

    /// A user of whom nothing is held.
    init(erasedAt sequence: Int64?) {
        key = nil
        isStored = false
        self.sequence = sequence ?? 0
        total = 0
        kept = 0
        newest = nil
        features = [:]
        hasConsent = true
        isErased = sequence != nil
        events = []
    }

    /// A user with a row, and all events where a cache has them.
    init(_ row: StateReader.Row, newest: Double?, isErased: Bool, events: [StoredEvent]?) {
        key = row.key
        isStored = true
        sequence = row.sequence
        total = row.total
        kept = row.kept
        self.newest = newest
        features = row.features
        hasConsent = row.hasConsent
        self.isErased = isErased
        self.events = events
    }

    /// The user as readers are to see it; nil where that is unknown.
    func user(_ id: String) -> StoredUser? {
        guard let events else { return nil }
        return StoredUser(
            id: id, sequence: sequence, total: total, events: events, features: features,
            hasConsent: hasConsent, isErased: isErased)
    }

    /// Takes an event into time order, after those of the same time.
    mutating func insert(_ event: StoredEvent) {
        guard var all = events else { return }
        events = nil
        var place = all.count
        while place > 0, all[place - 1].time > event.time { place -= 1 }
        all.insert(event, at: place)
        events = all
    }

    /// Keeps the newest `maximum` of the events at hand.
    mutating func trim(to maximum: Int) {
        guard let count = events?.count, count > maximum else { return }
        events?.removeFirst(count - maximum)
    }
}
