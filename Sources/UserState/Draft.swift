internal import RecCore

/// A string compared byte by byte: Swift's own comparison takes different ids for one where Unicode does.
struct ExactString: Hashable, Sendable {
    let bytes: [UInt8]

    init(_ text: String) { bytes = Array(text.utf8) }
}

/// A user as a transaction is about to leave it.
///
/// An object, so that its events are changed where they are: a copy of them for each change would cost more
/// than all else.
final class Draft {
    /// What the user's row holds, and what follows from it.
    struct State {
        /// The row's key; nil for a user who has none.
        var key: Int64?
        /// Whether the row is in the table already.
        var isStored = false
        var sequence: Int64 = 0
        var total = 0
        /// Events in the table.
        var kept = 0
        /// Time of the newest of them.
        var newest: Double?
        /// When the first of the event ids came that are remembered.
        var remembered: Double?
        var features: FeatureValues = [:]
        var hasConsent = true
        var isErased = false
        /// Whether the counts must be written.
        var isChanged = false
        /// Whether features or consent must be.
        var isProfileChanged = false
    }

    let id: String
    var state: State
    /// All that is held, where it is known without reading it.
    var events: [StoredEvent]?

    init(id: String, state: State, events: [StoredEvent]?) {
        self.id = id
        self.state = state
        self.events = events
    }

    /// The user as readers are to see it; nil where that is unknown.
    var user: StoredUser? {
        guard let events else { return nil }
        var user = StoredUser(
            id: id, sequence: state.sequence, total: state.total, events: events, features: state.features,
            hasConsent: state.hasConsent, isErased: state.isErased)
        user.place = StorePlace(key: state.key, remembered: state.remembered)
        return user
    }

    /// Nothing is held of the user any more.
    func clear(erasedAt sequence: Int64) {
        state = State(sequence: sequence, isErased: true)
        events = []
    }

    /// Takes an event into time order, after those of the same time.
    func insert(_ event: StoredEvent) {
        state.total += 1
        state.kept += 1
        state.newest = max(state.newest ?? event.time, event.time)
        guard var place = events?.count else { return }
        while place > 0, let before = events?[place - 1], before.time > event.time { place -= 1 }
        events?.insert(event, at: place)
    }

    /// Takes out the oldest event of that id.
    func remove(_ eventID: String, newest: Double?) {
        state.total -= 1
        state.kept -= 1
        state.newest = newest
        if let place = events?.firstIndex(where: { $0.eventID.utf8.elementsEqual(eventID.utf8) }) {
            events?.remove(at: place)
        }
    }

    /// Keeps the newest `maximum` of the events.
    func trim(to maximum: Int) {
        state.kept = min(state.kept, maximum)
        if let count = events?.count, count > maximum { events?.removeFirst(count - maximum) }
    }
}
