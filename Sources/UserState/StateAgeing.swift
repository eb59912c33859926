/// Drops what has outlived its time, a bounded part at a time, so that nobody who writes waits long.
final class StateAgeing {
    /// Event ids looked at in one step.
    private static let idsMaximum = 2000
    /// Users looked at in one step.
    private static let usersMaximum = 256

    /// Key of the user looked at last.
    private var lastKey: Int64 = 0

    /// - Returns: whether more event ids may be due now.
    func step(
        _ connection: SQLiteConnection, limits: UserStateLimits, now: Double
    ) throws(SQLiteError) -> Bool {
        // A transaction that changes nothing writes nothing.
        try connection.run("BEGIN IMMEDIATE")
        let isFull = try dropIDs(connection, since: now - limits.eventIDs, until: now + limits.eventIDs)
        if let retention = limits.retention { try dropEvents(connection, before: now - retention) }
        try connection.run("COMMIT")
        return isFull
    }

    /// Drops the first ids if their time is over, or, by a clock that was wrong, far ahead.
    private func dropIDs(
        _ connection: SQLiteConnection, since: Double, until: Double
    ) throws(SQLiteError) -> Bool {
        // Numbers follow arrival: while the first is not due, hardly any other is.
        let isDue =
            try connection.integer(
                """
                SELECT 1 FROM (SELECT received FROM seen ORDER BY number LIMIT 1)
                WHERE received NOT BETWEEN ? AND ?
                """, .real(since), .real(until)) != nil
        guard isDue else { return false }
        try connection.run(
            """
            DELETE FROM seen WHERE number IN (SELECT number FROM seen ORDER BY number LIMIT ?)
                AND received NOT BETWEEN ? AND ?
            """,
            .integer(Int64(Self.idsMaximum)), .real(since), .real(until))
        return connection.changes == Self.idsMaximum
    }

    private func dropEvents(_ connection: SQLiteConnection, before time: Double) throws(SQLiteError) {
        let statement = try connection.statement("SELECT key FROM user WHERE key > ? ORDER BY key LIMIT ?")
        try statement.bind([.integer(lastKey), .integer(Int64(Self.usersMaximum))])
        var keys: [Int64] = []
        while try statement.step() { keys.append(statement.integer(0)) }
        statement.reset()
        // After the last user it begins again.
        lastKey = keys.count < Self.usersMaximum ? 0 : keys.last ?? 0
        for key in keys {
            let dropped = try Self.dropEvents(of: key, before: time, connection)
            guard dropped > 0 else { continue }
            try connection.run(
                "UPDATE user SET kept = kept - ? WHERE key = ?", .integer(Int64(dropped)), .integer(key))
        }
    }

    /// Drops a user's events before `time`; the count in the user's row is the caller's.
    static func dropEvents(
        of key: Int64, before time: Double, _ connection: SQLiteConnection
    ) throws(SQLiteError) -> Int {
        try connection.run("DELETE FROM event WHERE user = ? AND time < ?", .integer(key), .real(time))
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
