internal import Threading

/// The user state of the daemon: reads from memory where it can, writes on a thread of its own, many changes
/// to a commit.
///
/// All calls from any thread.
public final class UserStates: Sendable {
    /// Called on the writer's thread when a change is durable, or was refused as a whole.
    public typealias Completion = @Sendable (Result<ChangeOutcome, UserStateError>) -> Void
    /// What else is known of a user who is kept for the first time; on the writer's thread.
    public typealias Seed = @Sendable (_ user: String) -> UserSeed?
    /// Called on the writer's thread when commits begin to fail, and with nil when they succeed again.
    public typealias Report = @Sendable (UserStateError?) -> Void

    private let store: any UserStateStore
    /// Another process writes, too: what is in memory may be old.
    private let sharing: Sharing
    private let cache: StateCache
    private let writer: StateWriter

    /// State kept in `store`.
    /// - Parameters:
    ///   - cacheBytes: for users in memory.
    ///   - queueDepth: changes that may wait.
    ///   - isShared: begins as after `share`.
    public init(
        store: any UserStateStore, cacheBytes: Int = 268_435_456, queueDepth: Int = 1024,
        isShared: Bool = false, seed: @escaping Seed = { _ in nil }, report: @escaping Report = { _ in }
    ) throws(UserStateError) {
        self.store = store
        sharing = Sharing(isShared: isShared)
        cache = StateCache(byteCount: cacheBytes)
        writer = try StateWriter(
            store: store, cache: cache, sharing: sharing, queueDepth: queueDepth, seed: seed, report: report)
    }

    /// State kept in a folder by SQLite.
    /// - Parameter inheritedLock: the `lock` of a process that has left its own to this one: this one begins
    ///   as after `share`.
    /// - Throws: `.unusable` when the folder cannot be used, or another process has it.
    public convenience init(
        directory: String, limits: UserStateLimits = UserStateLimits(), cacheBytes: Int = 268_435_456,
        queueDepth: Int = 1024, inheritedLock: Int32? = nil, seed: @escaping Seed = { _ in nil },
        report: @escaping Report = { _ in }
    ) throws(UserStateError) {
        try self.init(
            store: try SQLiteStore(directory: directory, limits: limits, inheritedLock: inheritedLock),
            cacheBytes: cacheBytes, queueDepth: queueDepth, isShared: inheritedLock != nil, seed: seed,
            report: report)
    }

    // MARK: - With another process

    /// The descriptor of the folder's lock, for a process that goes on in this one's place.
    public var lock: Int32? { store.lock }

    /// From here on another process may write to the same folder: nothing is answered from memory, and
    /// nothing is dropped by age. Both processes' changes are made one after the other.
    public func share() {
        sharing.begin()
        cache.removeAll()
    }

    /// The other process has ended: what is read may be kept in memory again.
    public func own() {
        cache.removeAll()
        // The other process may have committed last.
        if let newest = try? store.readCommit() { writer.reach(newest) }
        sharing.end()
    }

    /// What is held of a user: what every acknowledged change left.
    public func user(_ id: String) throws(UserStateError) -> StoredUser? {
        if sharing.isShared { return try store.user(id).map(store.current) }
        switch cache.find(id) {
        case .user(let user): return user.map(store.current)
        case .missing(let ticket):
            do {
                let user = try store.user(id)
                cache.fill(id, user, ticket: ticket)
                return user.map(store.current)
            } catch {
                cache.giveUp(id, ticket: ticket)
                throw error
            }
        }
    }

    /// What stands for a user's id in records that outlive it: 32 hexadecimal digits that only this store can
    /// make.
    public func pseudonym(of user: String) -> String { store.pseudonym(of: user) }

    /// Users read at a time by `forEachUser`: between them the log can be emptied.
    private static let usersAtATime = 64

    /// Calls `body` with every user of whom something is kept, those not changed meanwhile once, until it
    /// says false. Reads past the cache; any thread.
    public func forEachUser(_ body: (StoredUser) -> Bool) throws(UserStateError) {
        var place: Int64?
        repeat {
            let page = try store.users(after: place, limit: Self.usersAtATime)
            for user in page.users { guard body(store.current(user)) else { return } }
            place = page.end
        } while place != nil
    }

    /// Hands a change to the writer and never waits; false when too many wait already.
    public func submit(_ change: UserChange, completion: @escaping Completion) -> Bool {
        writer.submit(change, completion)
    }

    /// Names this store among all: sequences and commits of another one mean nothing here.
    public var epoch: UInt64 { store.epoch }

    /// Seconds since 1970 for events that come without a time: never before an earlier answer of this
    /// process, also when the wall clock is set back.
    public var now: Double { store.now }

    /// What was done since the start, and what there is now.
    public var counters: UserStateCounters {
        var counters = writer.counters
        let cached = cache.counters
        counters.cacheHits = cached.hits
        counters.cacheMisses = cached.misses
        counters.cacheUsers = cached.users
        counters.cacheBytes = cached.bytes
        (counters.databaseBytes, counters.logBytes) = store.byteCounts
        counters.loss = store.loss
        return counters
    }

    /// The newest commit that reads see.
    public var commit: Int64 {
        guard sharing.isShared, let newest = try? store.readCommit() else { return writer.commit }
        return newest
    }

    /// Waits until `isReached` holds, asked again after every commit; false when it does not by the monotonic
    /// `deadline` in nanoseconds.
    public func wait(until deadline: UInt64, for isReached: () -> Bool) -> Bool {
        while true {
            let before = commit
            if isReached() { return true }
            guard sharing.isShared else {
                guard writer.wait(until: deadline, after: before) else { return isReached() }
                continue
            }
            // The other process's commits are told by nobody.
            let now = MonotonicClock.nanoseconds
            guard now < deadline else { return isReached() }
            _ = writer.wait(until: min(deadline, now &+ Self.sharedNanoseconds), after: writer.commit)
        }
    }

    /// Between two looks for another process's commit.
    private static let sharedNanoseconds: UInt64 = 5_000_000

    /// Refuses further changes, makes those that wait durable, and ends the thread.
    public func stop() { writer.stop() }
}
