import Logging
import Ranking
import UserState

/// What is held of a user beside the store: all of it in memory.
extension RecommendService {
    /// Forgets a user who was erased. Any thread.
    func forget(user: String) {
        erasures.add()
        for version in registry.versions { version.histories?.remove(user: user) }
        slates.removeAll(user: user)
        shown.remove(user: user)
    }

    /// Forgets everybody, as any of them may have been erased by another process. Any thread.
    func forgetAll() {
        erasures.add()
        for version in registry.versions { version.histories?.removeAll() }
        slates.removeAll()
        shown.removeAll()
    }

    /// Writes down that something of a user was deleted, whatever the log's level is.
    func audit(_ what: String, user: String, _ job: Job) {
        var audit = logger
        audit.logLevel = .notice
        var metadata = job.metadata
        // Not the id, which is to be gone.
        metadata["user"] = "\(users?.pseudonym(of: user) ?? "")"
        audit.notice("\(what)", metadata: metadata)
    }
}
