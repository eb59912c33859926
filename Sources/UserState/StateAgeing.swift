/// Drops what has outlived its time, a bounded part at a time, so that nobody who writes waits long.
final class StateAgeing {
    /// Event ids dropped in one step, more or less.
    private static let idsMaximum = 2000
    /// Users looked at in one step.
    private static let usersMaximum = 256
    /// Parts of its time by which something may outlive it: one look at a user finds much to drop, and a user
    /// is looked at seldom.
    private static let (idParts, passParts): (Double, Double) = (7, 168)

    /// Key of the user looked at last.
    private var lastKey: Int64 = 0
    /// When the next pass over all users begins, by the clock of what is kept.
    private var nextPass = -Double.greatestFiniteMagnitude

    /// - Returns: whether there may be more to drop now.
    func step(
        _ connection: SQLiteConnection, limits: UserStateLimits, now: Double
    ) throws(SQLiteError) -> Bool {
        guard now >= nextPass else { return false }
        // A transaction that changes nothing writes nothing.
        try connection.run("BEGIN IMMEDIATE")
        let users = try tallies(connection)
        var dropped = 0
        for user in users {
            lastKey = user.key
            dropped += try dropIDs(of: user, connection, limits: limits, now: now)
            if let retention = limits.retention {
                try dropEvents(of: user.key, connection, before: now - retention)
            }
            if dropped >= Self.idsMaximum { break }
        }
        try connection.run("COMMIT")
        let isPassOver = users.count < Self.usersMaximum && lastKey == users.last?.key ?? lastKey
        guard isPassOver else { return dropped > 0 }
        // After the last user it begins again.
        lastKey = 0
        nextPass = now + min(limits.eventIDs, limits.retention ?? limits.eventIDs) / Self.passParts
        return false
    }

    private func tallies(
        _ connection: SQLiteConnection
    ) throws(SQLiteError) -> [(key: Int64, remembered: Double?)] {
        let statement = try connection.statement(
            """
            SELECT key, remembered FROM user CROSS JOIN tally ON tally.user = key
            WHERE key > ? ORDER BY key LIMIT ?
            """)
        try statement.bind([.integer(lastKey), .integer(Int64(Self.usersMaximum))])
        defer { statement.reset() }
        var users: [(key: Int64, remembered: Double?)] = []
        while try statement.step() {
            users.append((statement.integer(0), statement.isNull(1) ? nil : statement.real(1)))
        }
        return users
    }

    /// Drops a user's event ids if the time of the first is over for long, or, by a clock that was wrong, far
    /// ahead.
    private func dropIDs(
        of user: (key: Int64, remembered: Double?), _ connection: SQLiteConnection, limits: UserStateLimits,
        now: Double
    ) throws(SQLiteError) -> Int {
        let (since, until) = (now - limits.eventIDs, now + limits.eventIDs)
        guard let remembered = user.remembered,
            remembered < since - limits.eventIDs / Self.idParts || remembered > until
        else { return 0 }
        try connection.run(
            """
            DELETE FROM held WHERE user = ? AND kind = 2 AND time = 0 AND value NOT BETWEEN ? AND ?
            """, .integer(user.key), .real(since), .real(until))
        let dropped = connection.changes
        try connection.run(
            """
            UPDATE held SET remembered = (SELECT min(received) FROM seen WHERE user = ?1)
            WHERE user = ?1 AND kind = 1 AND time = 0 AND number = 0
            """, .integer(user.key))
        return max(dropped, 1)
    }

    private func dropEvents(
        of key: Int64, _ connection: SQLiteConnection, before time: Double
    ) throws(SQLiteError) {
        let dropped = try Self.dropEvents(of: key, before: time, connection)
        guard dropped > 0 else { return }
        try connection.run(
            "UPDATE held SET kept = kept - ? WHERE user = ? AND kind = 1 AND time = 0 AND number = 0",
            .integer(Int64(dropped)), .integer(key))
    }

    /// Drops a user's events before `time`; the count in the user's row is the caller's.
    static func dropEvents(
        of key: Int64, before time: Double, _ connection: SQLiteConnection
    ) throws(SQLiteError) -> Int {
        try connection.run(
            "DELETE FROM held WHERE user = ? AND kind = 0 AND time < ?", .integer(key), .real(time))
        return connection.changes
    }
}

extension [StoredEvent] {
    /// Drops those before `time`; all are in time order.
    mutating func drop(before time: Double) {
        var low = startIndex
        var high = endIndex
        while low < high {
            let middle = low + (high - low) / 2
            if self[middle].time < time { low = middle + 1 } else { high = middle }
        }
        removeFirst(low)
    }
}
