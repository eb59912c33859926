internal import RecCore
internal import Threading

/// The state in a folder as one moment left it, read beside whatever else goes on there.
///
/// While it lives the log cannot be emptied: it grows by what others write. One thread at a time.
final class StateSnapshot {
    let path: String
    let connection: SQLiteConnection
    let reader: StateReader

    /// - Throws: `.unusable` when the folder holds no state that this version knows.
    init(folder: String) throws(UserStateError) {
        let path = folder + "/state.db"
        self.path = path
        (connection, reader) = try UserStateError.of(path) {
            let connection = try SQLiteConnection(path: path, access: .readOnly)
            try StateSchema.configure(connection)
            guard try connection.integer("PRAGMA application_id") == StateSchema.applicationID else {
                throw UserStateError.unusable(path: path, reason: "is not a file of user state")
            }
            let found = try connection.integer("PRAGMA user_version") ?? 0
            guard found == StateSchema.version else {
                throw UserStateError.unusable(
                    path: path, reason: "has version \(found), known is \(StateSchema.version)")
            }
            try connection.execute("BEGIN")
            // The moment is that of the first read.
            let statement = try connection.statement("SELECT value FROM meta WHERE name = 'secret'")
            defer { statement.reset() }
            let hash = KeyedHash(secret: try statement.step() ? statement.blob(0) : [])
            return (connection, StateReader(connection, hash: hash))
        }
    }

    deinit { end() }

    /// Ends the moment: others may empty the log again, and nothing more is read.
    func end() { if connection.isInTransaction { try? connection.execute("COMMIT") } }

    /// Users with anything kept.
    func userCount() throws(SQLiteError) -> Int {
        Int(try connection.integer("SELECT count(*) FROM user") ?? 0)
    }

    /// Calls `body` with each user in the order of ids, byte by byte; `only` names one.
    func forEachUser(
        only: String?, _ body: (_ key: Int64, _ user: StateRecord.KeptUser) throws -> Void
    ) throws {
        let hasErased = try connection.integer("SELECT EXISTS(SELECT 1 FROM erased)") == 1
        let statement = try connection.compile(
            "SELECT key, id, features, consent, total FROM user CROSS JOIN tally ON tally.user = key "
                + (only == nil ? "ORDER BY id" : "WHERE id = ?"))
        try statement.bind(only.map { [.text($0)] } ?? [])
        defer { statement.reset() }
        while try statement.step() {
            let (key, id) = (statement.integer(0), statement.text(1) ?? "")
            guard let features = statement.text(2).flatMap(FeatureText.decode) else {
                throw UserStateError.unusable(path: path, reason: "user \(key): the features are not JSON")
            }
            try body(
                key,
                StateRecord.KeptUser(
                    id: id, features: features, hasConsent: statement.integer(3) != 0,
                    total: Int(statement.integer(4)),
                    isErased: try hasErased && reader.erasure(id) != nil))
        }
    }
}

extension StoredUser {
    /// What is held of a user in a folder, also while a daemon has it; nil when nothing is.
    /// - Throws: `.unusable` when the folder holds no state.
    public static func read(_ id: String, in folder: String) throws(UserStateError) -> StoredUser? {
        let snapshot = try StateSnapshot(folder: folder)
        return try UserStateError.of(snapshot.path) { try snapshot.reader.found(id) }
    }
}

extension UserStateError {
    /// Runs `body` and says with `path` what failed in it.
    static func of<Result>(_ path: String, _ body: () throws -> Result) throws(UserStateError) -> Result {
        do { return try body() } catch let error as UserStateError {
            throw error
        } catch let error as SQLiteError {
            throw .unusable(path: path, reason: error.reason)
        } catch let error as StreamError {
            throw .unusable(path: error.path, reason: "\(error.call): \(error.reason)")
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
    }
}
