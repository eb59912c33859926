internal import RecCore

/// Reads of one user on one connection, from one snapshot of the database.
struct StateReader {
    private let connection: SQLiteConnection
    private let hash: KeyedHash

    init(_ connection: SQLiteConnection, hash: KeyedHash) {
        self.connection = connection
        self.hash = hash
    }

    /// Number of the newest commit.
    func commit() throws(SQLiteError) -> Int64 { try StateSchema.commit(connection) }

    /// What is held of a user, events of all ages; nil for one of whom nothing is known.
    func user(_ id: String) throws(SQLiteError) -> StoredUser? {
        try connection.run("BEGIN")
        defer { try? connection.run("COMMIT") }
        return try found(id)
    }

    /// The same within a transaction of the caller's.
    func found(_ id: String) throws(SQLiteError) -> StoredUser? {
        let erased = try erasure(id)
        guard let row = try row(id) else {
            return erased.map { StoredUser(id: id, sequence: $0, isErased: true) }
        }
        var user = StoredUser(
            id: id, sequence: row.sequence, total: row.total, events: try events(row.key),
            features: row.features, hasConsent: row.hasConsent, isErased: erased != nil)
        user.place = StorePlace(key: row.key, remembered: row.remembered)
        return user
    }

    /// At most `limit` users whose keys are above `key`, and the last one's; nil when there are no more.
    func users(after key: Int64, limit: Int) throws(SQLiteError) -> (users: [StoredUser], end: Int64?) {
        try connection.run("BEGIN")
        defer { try? connection.run("COMMIT") }
        var ids: [(key: Int64, id: String)] = []
        let statement = try connection.statement(
            "SELECT key, id FROM user WHERE key > ? ORDER BY key LIMIT ?")
        try statement.bind([.integer(key), .integer(Int64(limit))])
        defer { statement.reset() }
        while try statement.step() { ids.append((statement.integer(0), statement.text(1) ?? "")) }
        var users: [StoredUser] = []
        for (_, id) in ids { if let user = try found(id) { users.append(user) } }
        return (users, ids.count < limit ? nil : ids.last?.key)
    }

    /// The sequence at which a user was erased; nil for one who never was.
    func erasure(_ id: String) throws(SQLiteError) -> Int64? {
        try connection.integer("SELECT sequence FROM erased WHERE hash = ?", .blob(hash.hash(id)))
    }

    /// A user without the events.
    struct Row {
        var key: Int64
        var sequence: Int64
        var total: Int
        var kept: Int
        var remembered: Double?
        var features: FeatureValues
        var hasConsent: Bool
    }

    /// The user's row; nil for an unknown one.
    func row(_ id: String) throws(SQLiteError) -> Row? {
        let statement = try connection.statement(
            """
            SELECT key, sequence, total, kept, consent, features, remembered
            FROM user CROSS JOIN tally ON tally.user = key WHERE id = ?
            """)
        try statement.bind([.text(id)])
        defer { statement.reset() }
        guard try statement.step() else { return nil }
        return Row(
            key: statement.integer(0), sequence: statement.integer(1), total: Int(statement.integer(2)),
            kept: Int(statement.integer(3)),
            remembered: statement.isNull(6) ? nil : statement.real(6),
            features: statement.text(5).flatMap(FeatureText.decode) ?? [:],
            hasConsent: statement.integer(4) != 0)
    }

    /// Time of the user's newest kept event.
    func newest(_ key: Int64) throws(SQLiteError) -> Double? {
        let statement = try connection.statement(
            "SELECT time FROM event WHERE user = ? ORDER BY time DESC, number DESC LIMIT 1")
        try statement.bind([.integer(key)])
        defer { statement.reset() }
        return try statement.step() ? statement.real(0) : nil
    }

    /// Where the oldest event with that id stands; nil without one.
    func place(of eventID: String, _ key: Int64) throws(SQLiteError) -> (time: Double, number: Int64)? {
        let statement = try connection.statement(
            "SELECT time, number FROM event WHERE user = ? AND event_id = ? ORDER BY time, number LIMIT 1")
        try statement.bind([.integer(key), .text(eventID)])
        defer { statement.reset() }
        return try statement.step() ? (statement.real(0), statement.integer(1)) : nil
    }

    /// All kept events, oldest first.
    func events(_ key: Int64) throws(SQLiteError) -> [StoredEvent] {
        let statement = try connection.statement(
            """
            SELECT item, action, time, event_id, value, recommendation_id, position FROM event
            WHERE user = ? ORDER BY time, number
            """)
        try statement.bind([.integer(key)])
        defer { statement.reset() }
        var events: [StoredEvent] = []
        while try statement.step() {
            events.append(
                StoredEvent(
                    itemID: statement.text(0) ?? "", action: statement.text(1), time: statement.real(2),
                    eventID: statement.text(3) ?? "",
                    value: statement.isNull(4) ? nil : statement.real(4),
                    recommendationID: statement.text(5),
                    position: statement.isNull(6) ? nil : Int(statement.integer(6))))
        }
        return events
    }
}
