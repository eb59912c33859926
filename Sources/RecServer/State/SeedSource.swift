import Artifacts
import RecCore
import Retrieval
import Threading
import UserState

/// The histories with which users' kept ones begin: those of the bundle that serves, which is loaded later
/// than the store is opened.
final class SeedSource: Sendable {
    private let eventMaximum: Int
    private let registry = Lock<BundleRegistry?>(nil)

    /// - Parameter eventMaximum: most events of a history.
    init(eventMaximum: Int) { self.eventMaximum = eventMaximum }

    /// Names the versions, once there is their registry.
    func attach(_ registry: BundleRegistry) { self.registry.withLock { $0 = registry } }

    /// What the default version knows of a user; any thread.
    @Sendable func seed(_ user: String) -> UserSeed? {
        let snapshot = registry.withLock { $0 }?.assignment(.default)?.bundle.snapshot
        return snapshot?.seed(of: user, limit: eventMaximum)
    }
}

extension Snapshot {
    /// The history with which a user's kept one begins: the last `limit` events of the bundle's, if it knows
    /// the user.
    ///
    /// A missing time is its predecessor's, leading ones are the first known time, and without any all are 0:
    /// as the sequence model reads them (ModelFormat.md §3.4).
    func seed(of user: String, limit: Int) -> UserSeed? {
        guard let users, let row = users.row(of: user) else { return nil }
        let history = users.history(row, limit: limit)
        guard !history.events.isEmpty else { return nil }
        let actions = manifest.sequence?.actions ?? []
        var time = history.events.first { $0.time != nil }?.time ?? 0
        var events: [StoredEvent] = []
        events.reserveCapacity(history.events.count)
        for (index, event) in history.events.enumerated() {
            time = event.time ?? time
            events.append(
                StoredEvent(
                    itemID: catalog.id(event.row),
                    action: actions.indices.contains(event.action) ? actions[event.action] : nil, time: time,
                    eventID: StoredEvent.bundleID(history.offset + index)))
        }
        return UserSeed(events: events, offset: history.offset)
    }
}
