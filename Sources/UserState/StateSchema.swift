/// The tables of the state's database, and what every connection is told.
///
/// All that an event changes stands together in `held`, in one page for most users: the events (kind 0), the
/// user's counts (1), and what is remembered of event ids (2), a keyed hash for its number. Writing a page
/// costs more than all else that an event does.
enum StateSchema {
    /// Stands in the header of the file: "RECS".
    static let applicationID: Int64 = 0x5245_4353
    /// Of the tables below; a file with a later one is refused.
    static let version: Int64 = 2
    /// 2²⁵ − 1 pages: the first byte of a page number is 0 or 1, by which pages without rows are told apart.
    static let pagesMaximum = 33_554_431
    /// A log of more pages is moved into the database file by the commit that makes it so: 64 MiB. Most of
    /// its pages are there many times, and each is moved once.
    private static let logPages = 16_384
    /// A log that was longer for once is cut back to this many bytes.
    private static let logBytes = 67_108_864
    /// Sets what is not stored in the file.
    static func configure(_ connection: SQLiteConnection) throws(SQLiteError) {
        try connection.execute(
            """
            PRAGMA synchronous = FULL;
            PRAGMA secure_delete = ON;
            PRAGMA temp_store = MEMORY;
            PRAGMA foreign_keys = ON;
            PRAGMA trusted_schema = OFF;
            PRAGMA cell_size_check = ON;
            PRAGMA max_page_count = \(pagesMaximum);
            PRAGMA wal_autocheckpoint = \(logPages);
            PRAGMA journal_size_limit = \(logBytes);
            """)
    }

    /// Number of the newest commit.
    static func commit(_ connection: SQLiteConnection) throws(SQLiteError) -> Int64 {
        try connection.integer("SELECT value FROM meta WHERE name = 'commit'") ?? 0
    }

    /// Makes the tables where there are none.
    /// - Throws: also when the file belongs to something else or to a later version.
    static func prepare(_ connection: SQLiteConnection, path: String) throws(UserStateError) {
        do {
            try configure(connection)
            let id = try connection.integer("PRAGMA application_id") ?? 0
            let found = try connection.integer("PRAGMA user_version") ?? 0
            let isEmpty = try connection.integer("SELECT count(*) FROM sqlite_schema") == 0
            if isEmpty, id == 0, found == 0 {
                try make(connection)
            } else if id != applicationID {
                throw UserStateError.unusable(path: path, reason: "is not a file of user state")
            } else if found != version {
                throw UserStateError.unusable(path: path, reason: "has version \(found), known is \(version)")
            }
            try connection.execute("PRAGMA journal_mode = WAL")
        } catch let error as SQLiteError {
            throw .unusable(path: path, reason: error.reason)
        } catch let error as UserStateError {
            throw error
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
    }

    private static func make(_ connection: SQLiteConnection) throws(SQLiteError) {
        let epoch = Int64.random(in: 1...Int64.max)
        let secret = KeyedHash.makeSecret()
        try connection.execute("PRAGMA auto_vacuum = NONE; BEGIN IMMEDIATE;")
        try connection.execute(
            """
            CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
            CREATE TABLE user(
                key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, consent INTEGER NOT NULL,
                features TEXT NOT NULL) STRICT;
            CREATE TABLE held(
                user INTEGER NOT NULL, kind INTEGER NOT NULL, time REAL NOT NULL, number INTEGER NOT NULL,
                item TEXT, action TEXT, event_id TEXT, value REAL, recommendation_id TEXT, position INTEGER,
                sequence INTEGER, total INTEGER, kept INTEGER, remembered REAL,
                PRIMARY KEY(user, kind, time, number)) STRICT, WITHOUT ROWID;
            CREATE VIEW event AS
                SELECT user, time, number, item, action, event_id, value, recommendation_id, position
                FROM held WHERE kind = 0;
            CREATE VIEW tally AS
                SELECT user, sequence, total, kept, remembered FROM held
                WHERE kind = 1 AND time = 0 AND number = 0;
            CREATE VIEW seen AS
                SELECT user, number AS hash, value AS received FROM held WHERE kind = 2 AND time = 0;
            CREATE TABLE erased(hash BLOB PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
            """)
        let insert: StaticString = "INSERT INTO meta(name, value) VALUES(?, ?)"
        try connection.run(insert, .text("epoch"), .integer(epoch))
        try connection.run(insert, .text("secret"), .blob(secret))
        try connection.run(insert, .text("commit"), .integer(0))
        try connection.execute(
            "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(version); COMMIT;")
    }
}
