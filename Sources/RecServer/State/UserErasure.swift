import Logging
import Ranking

/// What is held of a user beside the store: all of it in memory.
extension RecommendService {
    /// Forgets a user who was erased. Any thread.
    func forget(user: String) {
        for version in registry.versions { version.histories?.remove(user: user) }
    }

    /// Writes down that something of a user was deleted.
    func audit(_ what: String, user: String, _ job: Job) {
        logger.notice("\(what)", metadata: job.metadata)
    }
}
