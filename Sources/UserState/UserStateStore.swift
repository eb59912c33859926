/// Where user state is kept durably.
///
/// The embedded one is SQLite; a shared one (a Redis Cluster) fits the same shape: every change names its
/// users, reads are of one user, and nothing asks for an order among users.
public protocol UserStateStore: Sendable {
    /// Names this store among all: commits and sequences of another one mean nothing here.
    var epoch: UInt64 { get }

    /// Number of the newest durable commit of this process.
    var commit: Int64 { get }

    /// The descriptor of a lock by which only one process and those it leaves this to write; nil without one.
    var lock: Int32? { get }

    /// What is held of a user; nil when nothing is. Any thread.
    func user(_ id: String) throws(UserStateError) -> StoredUser?

    /// Some of the users after a place, in an order of the store's own. Any thread.
    /// - Parameter place: where an earlier call ended; nil for the beginning.
    /// - Returns: at most `limit` users, and the place they end at; nil after the last.
    func users(after place: Int64?, limit: Int) throws(UserStateError) -> (users: [StoredUser], end: Int64?)

    /// Applies changes in their order and makes all of them durable at once, or none. One thread at a time.
    /// - Parameters:
    ///   - known: a user as the last commit left it, where that is in memory.
    ///   - seed: what else is known of a user who is kept for the first time.
    func apply(
        _ changes: [UserChange], known: @escaping (_ user: String) -> StoredUser?,
        seed: @escaping (_ user: String) -> UserSeed?
    ) throws(UserStateError) -> AppliedChanges

    /// Leaves no byte of erased users and events in any file; false when others are in the way for now.
    func forget() throws(UserStateError) -> Bool

    /// Drops a bounded part of what has outlived its time; true when there may be more to drop now.
    func age() throws(UserStateError) -> Bool

    /// A user without what has outlived its time.
    func current(_ user: StoredUser) -> StoredUser

    /// Seconds since 1970 for what happens now: never before an earlier answer of this process.
    var now: Double { get }

    /// Bytes of what is kept, and of the log of newest changes.
    var byteCounts: (database: Int, log: Int) { get }

    /// What could not be used of the log of newest changes when the store was opened.
    var loss: StateLogLoss { get }

    /// What stands for a user's id in records that outlive it: 32 hexadecimal digits that only this store can
    /// make.
    func pseudonym(of user: String) -> String

    /// Number of the newest durable commit of any process. Any thread.
    func readCommit() throws(UserStateError) -> Int64
}

/// What a commit did.
public struct AppliedChanges: Sendable {
    /// One per change, in their order; a change that failed left nothing.
    public var outcomes: [Result<ChangeOutcome, UserStateError>]
    /// Users changed, as they are now; nil where that must be read.
    public var users: [(id: String, user: StoredUser?)]
    /// The commit's number.
    public var commit: Int64
    /// Whether there was a commit before it that had been answered as failed: all users may differ from what
    /// is known of them.
    public var isAfterUnknown = false
}

/// A history known from elsewhere, with which a user's kept history begins.
public struct UserSeed: Sendable {
    /// Oldest first.
    public var events: [StoredEvent]
    /// Events before those.
    public var offset: Int

    /// A history of `events` after `offset` older ones.
    public init(events: [StoredEvent], offset: Int = 0) {
        self.events = events
        self.offset = offset
    }
}

/// Limits of what is kept.
public struct UserStateLimits: Sendable {
    /// Events kept per user.
    public var historyMaximum = 1024
    /// Seconds an event may arrive after a newer one of its user.
    public var lateness: Double = 86_400
    /// Seconds after which an event is dropped; nil keeps it.
    public var retention: Double?
    /// Seconds for which event ids are remembered.
    public var eventIDs: Double = 7 * 86_400

    /// The defaults above.
    public init() {}
}
