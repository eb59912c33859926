/// What the user state has done since the start, and what there is now.
public struct UserStateCounters: Sendable {
    /// Events kept.
    public var stored = 0
    /// Events that were known already.
    public var duplicates = 0
    /// Events refused, by reason.
    public var refused: [EventOutcome.Refusal: Int] = [:]
    /// Users erased.
    public var erased = 0
    /// Commits that ended well.
    public var commits = 0
    /// Changes in them.
    public var changes = 0
    /// Seconds they took.
    public var commitSeconds: Double = 0
    /// Transactions that failed, with every change in them, and changes that failed alone.
    public var failures = 0
    /// Why the newest transaction failed; nil when it did not.
    public var lastFailure: String?
    /// Changes that wait.
    public var waiting = 0
    /// Reads answered from memory.
    public var cacheHits = 0
    /// Reads that went to the store.
    public var cacheMisses = 0
    /// Users in memory, with those of whom nothing is known.
    public var cacheUsers = 0
    /// About what they take.
    public var cacheBytes = 0
    /// Size of the database file.
    public var databaseBytes = 0
    /// Size of its log.
    public var logBytes = 0
    /// What could not be used of the log when the state was opened.
    public var loss = StateLogLoss()

    /// All zero.
    public init() {}

    /// Counts what became of a change.
    mutating func count(_ change: UserChange, _ outcome: ChangeOutcome) {
        for event in outcome.events {
            switch event {
            case .stored: stored += 1
            case .duplicate: duplicates += 1
            case .refused(let reason): refused[reason, default: 0] += 1
            }
        }
        if case .erase = change { erased += 1 }
    }
}
