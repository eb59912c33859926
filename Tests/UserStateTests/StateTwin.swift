import RecCore

@testable import UserState

/// What user state is, said once more with plain arrays and without a thought for speed.
struct StateTwin {
    struct User {
        var total = 0
        var events: [StoredEvent] = []
        var features: FeatureValues = [:]
        var hasConsent = true
        var seen: [(id: String, at: Double)] = []
    }

    enum Event: Equatable { case stored, duplicate, refused(EventOutcome.Refusal) }

    var limits: UserStateLimits
    var seeds: [String: UserSeed] = [:]
    private(set) var users: [ExactString: User] = [:]
    private(set) var erased: Set<ExactString> = []

    init(limits: UserStateLimits) { self.limits = limits }

    private func fresh(_ id: String) -> User {
        var user = User()
        if !erased.contains(ExactString(id)), let seed = seeds[id] {
            user.events = seed.events
            user.total = seed.offset + seed.events.count
        }
        return user
    }

    private func kept(_ events: [StoredEvent], _ now: Double) -> [StoredEvent] {
        guard let retention = limits.retention else { return events }
        return events.filter { $0.time >= now - retention }
    }

    mutating func append(_ event: StoredEvent, to id: String, now: Double) -> Event {
        var user = users[ExactString(id)] ?? fresh(id)
        let isNew = users[ExactString(id)] == nil
        if !user.hasConsent { return .refused(.noConsent) }
        if user.seen.contains(where: { $0.id == event.eventID && $0.at >= now - limits.eventIDs }) {
            return .duplicate
        }
        if !isNew { user.events = kept(user.events, now) }
        if let newest = user.events.map(\.time).max(), event.time < min(newest, now) - limits.lateness {
            return .refused(.tooOld)
        }
        if let retention = limits.retention, event.time < now - retention { return .refused(.tooOld) }
        let place = user.events.firstIndex { $0.time > event.time } ?? user.events.count
        user.events.insert(event, at: place)
        user.total += 1
        user.seen.append((event.eventID, now))
        users[ExactString(id)] = user
        return .stored
    }

    mutating func update(_ id: String, _ features: FeatureValues?, _ hasConsent: Bool?, now: Double) {
        var user = users[ExactString(id)] ?? fresh(id)
        if let features { user.features = features }
        if let hasConsent { user.hasConsent = hasConsent }
        users[ExactString(id)] = user
    }

    mutating func remove(_ eventID: String, of id: String, now: Double) -> Bool {
        guard var user = users[ExactString(id)] else { return false }
        user.events = kept(user.events, now)
        guard let place = user.events.firstIndex(where: { $0.eventID == eventID }) else { return false }
        user.events.remove(at: place)
        user.total -= 1
        users[ExactString(id)] = user
        return true
    }

    mutating func erase(_ id: String) -> Bool {
        let isFound = users[ExactString(id)] != nil || (!erased.contains(ExactString(id)) && seeds[id] != nil)
        users[ExactString(id)] = nil
        erased.insert(ExactString(id))
        return isFound
    }

    /// The end of a commit: the oldest go where there are too many.
    mutating func commit() {
        for id in users.keys {
            let count = users[id]?.events.count ?? 0
            users[id]?.events.removeFirst(max(count - limits.historyMaximum, 0))
        }
    }

    func user(_ id: String, now: Double) -> StoredUser? {
        guard let user = users[ExactString(id)] else {
            return erased.contains(ExactString(id)) ? StoredUser(id: id, isErased: true) : nil
        }
        return StoredUser(
            id: id, total: user.total, events: kept(user.events, now), features: user.features,
            hasConsent: user.hasConsent, isErased: erased.contains(ExactString(id)))
    }
}
