import Logging
import UserState

extension UserStates {
    /// The state in the folder that is configured; nil without one.
    /// - Parameters:
    ///   - inheritedLock: the folder's lock where another process has left it to this one.
    ///   - seed: what else is known of a user who is kept for the first time.
    convenience init?(
        _ configuration: Configuration, inheritedLock: Int32? = nil, seed: @escaping Seed, logger: Logger
    ) throws(UserStateError) {
        let folder = configuration.text("state_dir")
        guard !folder.isEmpty else { return nil }
        try self.init(
            directory: folder, limits: UserStateLimits(configuration),
            cacheBytes: configuration.integer("state_cache_bytes"),
            queueDepth: configuration.integer("event_queue_depth"), inheritedLock: inheritedLock,
            seed: seed,
            report: { error in
                if let error {
                    logger.error("user state fails", metadata: ["reason": "\(error)"])
                } else {
                    logger.notice("user state works again")
                }
            })
        let loss = counters.loss
        guard loss.bytes > 0 else { return }
        let metadata: Logger.Metadata = [
            "frames": "\(loss.frames)", "commits": "\(loss.commits)", "bytes": "\(loss.bytes)",
        ]
        if loss.commits > 0 {
            logger.warning("the log of the user state is damaged: its end is dropped", metadata: metadata)
        } else {
            logger.notice("an unfinished commit of the user state is dropped", metadata: metadata)
        }
    }
}

extension UserStateLimits {
    /// What is configured.
    init(_ configuration: Configuration) {
        let days = configuration.integer("retention_days")
        self.init()
        historyMaximum = configuration.integer("history_max")
        lateness = Double(configuration.integer("event_window_s"))
        retention = days == 0 ? nil : Double(days) * Self.dayInSeconds
        eventIDs = Double(configuration.integer("event_id_days")) * Self.dayInSeconds
    }

    private static let dayInSeconds: Double = 86_400
}
