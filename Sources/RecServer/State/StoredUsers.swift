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

extension RecommendService {
    /// A user's features, the kept ones over those of the bundle that serves.
    func features(of id: String) -> FeatureValues { features(of: id, storedUser(id)) }

    func features(of id: String, _ user: StoredUser?) -> FeatureValues {
        let kept = user?.features ?? [:]
        guard !(user?.isErased ?? false), let users = registry.assignment(.default)?.bundle.snapshot.users,
            let row = users.row(of: id)
        else { return kept }
        return kept.merging(users.features(row)) { kept, _ in kept }
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
