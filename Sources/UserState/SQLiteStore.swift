internal import Threading

/// User state in a folder, kept by SQLite: one connection writes, some read.
public final class SQLiteStore: UserStateStore {
    private let folder: StateFolder
    private let limits: UserStateLimits
    private let clock: StateClock
    private let hash: KeyedHash
    /// Names this store among all: a token of another one means nothing here.
    public let epoch: UInt64
    /// What could not be used of the log when the state was opened.
    public let loss: StateLogLoss
    /// Idle connections that read.
    private let readers: LendingShelf<Reconnecting>
    /// The one that writes; more than one only where two threads break the rule.
    private let writers: LendingShelf<Reconnecting>
    /// Where dropping by age has got to.
    private let ageing = LendingShelf(capacity: 1) { StateAgeing() }
    private let committed: Lock<Int64>

    /// Reading connections kept open.
    private static let idleReaders = 8
    /// How long a read or a commit waits for other processes, in milliseconds.
    private static let patience: Int32 = 2000
    /// How long forgetting waits for those who read, in milliseconds: nothing is written meanwhile.
    private static let forgetPatience: Int32 = 100

    /// Opens the state in `directory`, which is made where it is missing.
    /// - Throws: `.unusable` when it cannot be, or another process has it.
    /// - Parameter inheritedLock: see `UserStates`.
    public convenience init(
        directory: String, limits: UserStateLimits = UserStateLimits(), inheritedLock: Int32? = nil
    ) throws(UserStateError) {
        try self.init(
            directory: directory, limits: limits, clock: StateClock(), inheritedLock: inheritedLock)
    }

    init(
        directory: String, limits: UserStateLimits, clock: StateClock, inheritedLock: Int32? = nil
    ) throws(UserStateError) {
        let folder = try StateFolder(directory, inheritedLock: inheritedLock)
        let path = folder.database
        self.folder = folder
        self.limits = limits
        self.clock = clock
        // Another process that still writes may begin its log anew while it is walked.
        loss = inheritedLock == nil ? folder.logLoss : StateLogLoss()
        let first = Reconnecting(path: path, access: .readWrite, patience: Self.patience)
        do {
            let connection = try first.open()
            try StateSchema.prepare(connection, path: path)
            if inheritedLock == nil { _ = try connection.checkpoint(truncates: true) }
            epoch = UInt64(
                bitPattern: try connection.integer("SELECT value FROM meta WHERE name = 'epoch'") ?? 0)
            committed = Lock(try StateSchema.commit(connection))
            let statement = try connection.statement("SELECT value FROM meta WHERE name = 'secret'")
            defer { statement.reset() }
            hash = KeyedHash(secret: try statement.step() ? statement.blob(0) : [])
        } catch let error as SQLiteError {
            throw .unusable(path: path, reason: error.reason)
        } catch let error as UserStateError {
            throw error
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
        writers = LendingShelf(capacity: 1) {
            Reconnecting(path: path, access: .readWrite, patience: Self.patience)
        }
        readers = LendingShelf(capacity: Self.idleReaders) {
            Reconnecting(path: path, access: .readOnly, patience: Self.patience)
        }
    }

    /// The newest durable commit.
    public var commit: Int64 { committed.withLock { $0 } }
    /// The same, whoever made it.
    public func readCommit() throws(UserStateError) -> Int64 {
        try read { (reader) throws(SQLiteError) in try reader.commit() }
    }
    /// The folder's lock.
    public var lock: Int32? { folder.lock }
    /// Bytes of the database and of its log.
    public var byteCounts: (database: Int, log: Int) { folder.byteCounts }

    /// Seconds since 1970 for what happens now: never before an earlier answer of this process.
    public var now: Double { clock.stamp }

    /// What is held of a user; nil when nothing is. Any thread.
    public func user(_ id: String) throws(UserStateError) -> StoredUser? {
        try read { (reader) throws(SQLiteError) in try reader.user(id) }
    }

    /// At most `limit` users after a place, and the place they end at. Any thread.
    public func users(
        after place: Int64?, limit: Int
    ) throws(UserStateError) -> (users: [StoredUser], end: Int64?) {
        try read { (reader) throws(SQLiteError) in try reader.users(after: place ?? 0, limit: limit) }
    }

    private func read<Result: Sendable>(
        _ body: (StateReader) throws(SQLiteError) -> Result
    ) throws(UserStateError) -> Result {
        try readers.lend { (reader) throws(UserStateError) -> Result in
            do throws(SQLiteError) {
                return try body(StateReader(try reader.open(), hash: hash))
            } catch {
                reader.close()
                throw .unavailable(error.reason)
            }
        }
    }

    /// What of a user has outlived its time is left out.
    public func current(_ user: StoredUser) -> StoredUser {
        guard let retention = limits.retention else { return user }
        let cutoff = clock.age - retention
        guard let oldest = user.events.first, oldest.time < cutoff else { return user }
        var user = user
        user.events.drop(before: cutoff)
        return user
    }

    /// Applies changes as the protocol says. One thread at a time.
    public func apply(
        _ changes: [UserChange], known: @escaping (String) -> StoredUser?,
        seed: @escaping (String) -> UserSeed?
    ) throws(UserStateError) -> AppliedChanges {
        try write { (connection) throws(SQLiteError) in
            do throws(SQLiteError) {
                return try apply(changes, on: connection, isGuarded: false, known, seed)
            } catch {
                // One of them is at fault: the others are kept.
                guard error.isOfStatement else { throw error }
                if connection.isInTransaction { try connection.run("ROLLBACK") }
                return try apply(changes, on: connection, isGuarded: true, known, seed)
            }
        }
    }

    private func apply(
        _ changes: [UserChange], on connection: SQLiteConnection, isGuarded: Bool,
        _ known: @escaping (String) -> StoredUser?, _ seed: @escaping (String) -> UserSeed?
    ) throws(SQLiteError) -> AppliedChanges {
        let expected = commit
        let transaction = try StateTransaction(
            connection, hash: hash, limits: limits, now: clock.age, known: known, knownAt: expected,
            seed: seed)
        var outcomes: [Result<ChangeOutcome, UserStateError>] = []
        for change in changes { outcomes.append(try transaction.apply(change, isGuarded: isGuarded)) }
        let changed = try transaction.commit()
        let number = transaction.clock
        committed.withLock { $0 = number }
        return AppliedChanges(
            outcomes: outcomes, users: changed, commit: number,
            isAfterUnknown: transaction.start != expected)
    }

    /// Leaves no byte of erased users and events in any file. One thread at a time, as for all that writes.
    public func forget() throws(UserStateError) -> Bool {
        try writers.lend { (writer) throws(UserStateError) -> Bool in
            do throws(SQLiteError) {
                let connection = try writer.open()
                connection.wait(atMost: Self.forgetPatience)
                defer { connection.wait(atMost: Self.patience) }
                guard try connection.checkpoint(truncates: true) else { return false }
                // Its copies of pages are as they were before they were cleaned on their way into the file.
                writer.close()
                return true
            } catch {
                writer.close()
                throw .unavailable(error.reason)
            }
        }
    }

    /// Drops a bounded part of what has outlived its time.
    public func age() throws(UserStateError) -> Bool {
        try write { (connection) throws(SQLiteError) in
            try ageing.lend { (ageing) throws(SQLiteError) in
                try ageing.step(connection, limits: limits, now: clock.age)
            }
        }
    }

    /// Runs `body` in a transaction of its own and makes what it did durable. One thread at a time, as for
    /// all that writes.
    func restoring<Result: Sendable>(
        _ body: (StateTransaction) throws(SQLiteError) -> Result
    ) throws(UserStateError) -> Result {
        try write { (connection) throws(SQLiteError) in
            let transaction = try StateTransaction(
                connection, hash: hash, limits: limits, now: clock.age, known: { _ in nil }, knownAt: 0,
                seed: { _ in nil })
            let result = try body(transaction)
            _ = try transaction.commit()
            let number = transaction.clock
            committed.withLock { $0 = number }
            return result
        }
    }

    /// What stands for a user's id in records that outlive it: 32 hexadecimal digits. Any thread.
    public func pseudonym(of user: String) -> String {
        hash.hash(user).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    private func write<Result: Sendable>(
        _ body: (SQLiteConnection) throws(SQLiteError) -> Result
    ) throws(UserStateError) -> Result {
        try writers.lend { (writer) throws(UserStateError) -> Result in
            do throws(SQLiteError) {
                return try body(try writer.open())
            } catch {
                // Whatever state it is in, and whatever a failed sync has lost: the next transaction begins
                // with what the files hold.
                writer.close()
                throw .unavailable(error.reason)
            }
        }
    }
}

/// A connection that is opened when it is needed, and again after a failure.
private final class Reconnecting {
    private let path: String
    private let access: SQLiteConnection.Access
    private let patience: Int32
    private var connection: SQLiteConnection?

    /// Pages that a commit changes stay in memory to its end: with SQLite's own 2 MiB a large commit wrote
    /// each of them to the log again and again.
    private static let writerCacheKiB = 65_536

    init(path: String, access: SQLiteConnection.Access, patience: Int32) {
        self.path = path
        self.access = access
        self.patience = patience
    }

    func open() throws(SQLiteError) -> SQLiteConnection {
        if let connection { return connection }
        let opened = try SQLiteConnection(path: path, access: access)
        opened.wait(atMost: patience)
        try StateSchema.configure(opened)
        if access == .readWrite {
            // Nothing of a commit is written before its end: nobody tells the file system of a rollback, and
            // the place in the log may be another process's by then.
            try opened.execute("PRAGMA cache_size = -\(Self.writerCacheKiB); PRAGMA cache_spill = OFF")
        }
        connection = opened
        return opened
    }

    func close() { connection = nil }
}
