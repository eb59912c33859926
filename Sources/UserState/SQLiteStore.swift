internal import Threading

/// User state in a folder, kept by SQLite: one connection writes, some read.
public final class SQLiteStore: UserStateStore {
    private let folder: StateFolder
    private let limits: UserStateLimits
    private let clock: @Sendable () -> Double
    private let hash: KeyedHash
    /// Names this store among all: a token of another one means nothing here.
    public let epoch: Int64
    /// Idle connections that read.
    private let readers: LendingShelf<Reconnecting>
    /// The one that writes; more than one only where two threads break the rule.
    private let writers: LendingShelf<Reconnecting>
    private let committed: Lock<Int64>

    /// Reading connections kept open.
    private static let idleReaders = 8
    /// A log longer than this many pages is moved into the database file at the next commit.
    private static let logPages = 4000

    /// Opens the state in `directory`, which is made where it is missing.
    /// - Parameter clock: the wall clock in seconds; the system's unless given.
    /// - Throws: `.unusable` when it cannot be, or another process has it.
    public init(
        directory: String, limits: UserStateLimits = UserStateLimits(),
        clock: (@Sendable () -> Double)? = nil
    ) throws(UserStateError) {
        let folder = try StateFolder(directory)
        let path = folder.database
        self.folder = folder
        self.limits = limits
        self.clock = clock ?? { Double(WallClock.nanoseconds) / 1e9 }
        let first = Reconnecting(path: path, access: .readWrite)
        do {
            let connection = try first.open()
            try StateSchema.prepare(connection, path: path)
            _ = try connection.checkpoint(truncates: true)
            epoch = try connection.integer("SELECT value FROM meta WHERE name = 'epoch'") ?? 0
            committed = Lock(try connection.integer("SELECT value FROM meta WHERE name = 'commit'") ?? 0)
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
        writers = LendingShelf(capacity: 1) { Reconnecting(path: path, access: .readWrite) }
        readers = LendingShelf(capacity: Self.idleReaders) { Reconnecting(path: path, access: .readOnly) }
    }

    /// The newest durable commit.
    public var commit: Int64 { committed.withLock { $0 } }
    /// Bytes of the database and of its log.
    public var byteCounts: (database: Int, log: Int) { folder.byteCounts }

    public func user(_ id: String) throws(UserStateError) -> StoredUser? {
        try readers.lend { (reader) throws(UserStateError) -> StoredUser? in
            do throws(SQLiteError) {
                return try StateReader(try reader.open(), hash: hash).user(id)
            } catch {
                reader.close()
                throw .unavailable(error.reason)
            }
        }
    }

    public func apply(
        _ changes: [UserChange], known: @escaping (String) -> StoredUser?,
        seed: @escaping (String) -> UserSeed?
    ) throws(UserStateError) -> AppliedChanges {
        try writers.lend { (writer) throws(UserStateError) in
            do throws(SQLiteError) {
                return try apply(changes, on: try writer.open(), known, seed)
            } catch {
                // Whatever state it is in: the next transaction begins with what the files hold.
                writer.close()
                throw .unavailable(error.reason)
            }
        }
    }

    public func forget() throws(UserStateError) -> Bool {
        try writers.lend { (writer) throws(UserStateError) in
            do throws(SQLiteError) {
                return try writer.open().checkpoint(truncates: true)
            } catch {
                writer.close()
                throw .unavailable(error.reason)
            }
        }
    }

    /// Runs `body` in a transaction of its own and makes it durable. One thread at a time.
    func restoring<Result: Sendable>(
        _ body: (StateTransaction) throws(SQLiteError) -> Result
    ) throws(UserStateError) -> Result {
        try writers.lend { (writer) throws(UserStateError) in
            do throws(SQLiteError) {
                let transaction = try StateTransaction(
                    try writer.open(), hash: hash, limits: limits, now: clock(), clock: commit,
                    known: { _ in nil }, seed: { _ in nil })
                let result = try body(transaction)
                _ = try transaction.commit()
                let number = transaction.clock
                committed.withLock { $0 = number }
                return result
            } catch {
                writer.close()
                throw .unavailable(error.reason)
            }
        }
    }

    private func apply(
        _ changes: [UserChange], on connection: SQLiteConnection,
        _ known: @escaping (String) -> StoredUser?, _ seed: @escaping (String) -> UserSeed?
    ) throws(SQLiteError) -> AppliedChanges {
        let transaction = try StateTransaction(
            connection, hash: hash, limits: limits, now: clock(), clock: commit, known: known, seed: seed)
        var outcomes: [Result<ChangeOutcome, UserStateError>] = []
        for change in changes { outcomes.append(try transaction.apply(change)) }
        let changed = try transaction.commit()
        let number = transaction.clock
        committed.withLock { $0 = number }
        return AppliedChanges(outcomes: outcomes, users: changed, commit: number)
    }
}

/// A connection that is opened when it is needed, and again after a failure.
private final class Reconnecting {
    private let path: String
    private let access: SQLiteConnection.Access
    private var connection: SQLiteConnection?

    init(path: String, access: SQLiteConnection.Access) {
        self.path = path
        self.access = access
    }

    func open() throws(SQLiteError) -> SQLiteConnection {
        if let connection { return connection }
        let opened = try SQLiteConnection(path: path, access: access)
        try StateSchema.configure(opened)
        connection = opened
        return opened
    }

    func close() { connection = nil }
}
