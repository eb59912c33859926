import Artifacts
import Logging
import RecCore
import Retrieval
import Threading
import UserState

extension RecommendService {
    /// What is kept of a user; nil for nobody, for a user of whom nothing is kept, and where nothing is.
    ///
    /// A store that fails does not fail the request: its user is treated as one who does not consent, since
    /// that may be so.
    func storedUser(_ id: String?) -> StoredUser? {
        guard let users, let id else { return nil }
        do throws(UserStateError) { return try users.user(id) } catch {
            metrics.userReadsFailed.add()
            if userReadLog.isDue() {
                logger.error("user state cannot be read", metadata: ["reason": "\(error)"])
            }
            return StoredUser(id: id, hasConsent: false)
        }
    }
}

/// Lets one log line a second through.
final class LogPace: Sendable {
    private static let nanoseconds: UInt64 = 1_000_000_000
    private let next = Lock<UInt64>(0)

    /// Whether the last line is long enough ago; then the next second begins.
    func isDue(at now: UInt64 = MonotonicClock.nanoseconds) -> Bool {
        next.withLock { next in
            guard now >= next else { return false }
            next = now + Self.nanoseconds
            return true
        }
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
                    eventID: "bundle-\(history.offset + index)"))
        }
        return UserSeed(events: events, offset: history.offset)
    }
}
