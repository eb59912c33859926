internal import RecCore
internal import Threading

/// Drops what is retained no longer from a folder that no daemon has open, and gives its room back.
public struct StateCompaction {
    /// What came of it.
    public struct Outcome: Sendable, Equatable {
        /// Events that were older than what is retained.
        public var dropped = 0
        /// Bytes of the files before.
        public var before = 0
        /// Bytes of the files after.
        public var after = 0
        /// Whether another process that reads kept the log from being emptied.
        public var isLogHeld = false
    }

    private let folder: StateFolder
    private let connection: SQLiteConnection
    private let limits: UserStateLimits

    /// Users looked at in one transaction.
    private static let users: Int64 = 1000
    /// Steps of SQLite's machine between two looks at the clock.
    private static let steps: Int32 = 100_000
    /// Steps that copying a row takes, about.
    private static let stepsPerRow = 5
    /// Room that is left beside what compacting needs.
    private static let spareBytes = 16_777_216

    /// - Throws: `.unusable` also when another process has the folder open.
    public init(folder path: String, limits: UserStateLimits) throws(UserStateError) {
        let folder = try StateFolder(path)
        self.folder = folder
        self.limits = limits
        connection = try UserStateError.of(folder.database) {
            let connection = try SQLiteConnection(path: folder.database, access: .readWrite)
            try StateSchema.prepare(connection, path: folder.database)
            return connection
        }
    }

    /// Drops, then writes the file anew without gaps.
    /// - Parameter progress: told the step, and how much of it is done and to do.
    /// - Throws: `.unusable` when there is no room for that: twice what is kept, for the time it takes.
    public func run(
        progress: (_ step: String, _ done: Int, _ total: Int) -> Void
    ) throws(UserStateError) -> Outcome {
        try UserStateError.of(folder.database) {
            var outcome = Outcome()
            outcome.before = size
            let now = Double(WallClock.nanoseconds) / 1e9
            if let retention = limits.retention {
                outcome.dropped = try drop(before: now - retention) { progress("retention", $0, $1) }
            }
            try connection.run(
                "DELETE FROM held WHERE kind = 2 AND value < ?", .real(now - limits.eventIDs))
            _ = try connection.checkpoint(truncates: true)
            try requireRoom()
            try rewrite { progress("compacting", $0, $1) }
            outcome.isLogHeld = try !connection.checkpoint(truncates: true)
            outcome.after = size
            return outcome
        }
    }

    private var size: Int { folder.byteCounts.database + folder.byteCounts.log }

    private func drop(
        before time: Double, _ progress: (_ done: Int, _ total: Int) -> Void
    ) throws(SQLiteError) -> Int {
        let last = try connection.integer("SELECT max(key) FROM user") ?? 0
        var dropped = 0
        var first: Int64 = 0
        while first <= last {
            let end = first + Self.users
            try connection.execute("BEGIN IMMEDIATE")
            try connection.run(
                "DELETE FROM held WHERE user >= ? AND user < ? AND kind = 0 AND time < ?",
                .integer(first), .integer(end), .real(time))
            if case let count = connection.changes, count > 0 {
                dropped += count
                try connection.run(
                    """
                    UPDATE held SET kept = (SELECT count(*) FROM event WHERE event.user = held.user)
                    WHERE user >= ? AND user < ? AND kind = 1
                    """,
                    .integer(first), .integer(end))
            }
            try connection.execute("COMMIT")
            first = end
            progress(Int(min(first, last)), Int(last))
        }
        return dropped
    }

    private func requireRoom() throws {
        let pages = try connection.integer("PRAGMA page_count") ?? 0
        let free = try connection.integer("PRAGMA freelist_count") ?? 0
        let pageBytes = try connection.integer("PRAGMA page_size") ?? 0
        let needed = Int(2 * (pages - free) * pageBytes) + Self.spareBytes
        guard let room = StateFolder.freeBytes(at: folder.path), room < needed else { return }
        throw UserStateError.unusable(
            path: folder.path, reason: "compacting needs \(needed) bytes for a while, \(room) are free")
    }

    private func rewrite(_ progress: (_ done: Int, _ total: Int) -> Void) throws(SQLiteError) {
        let rows = try connection.integer(
            "SELECT (SELECT count(*) FROM user) * 2 + (SELECT count(*) FROM held)"
        )
        let total = max(Int(rows ?? 0) * Self.stepsPerRow, 1)
        // What is written in between stays in the folder, where only its owner may read.
        let parts = folder.path.split(separator: "'", omittingEmptySubsequences: false)
        let quoted = parts.joined(separator: "''")
        try connection.execute("PRAGMA temp_store = FILE; PRAGMA temp_store_directory = '\(quoted)'")
        var done = 0
        progress(0, total)
        try connection.execute("VACUUM", every: Self.steps) {
            done += Int(Self.steps)
            progress(min(done, total - 1), total)
        }
        progress(total, total)
    }
}
