internal import RecCore

/// One transaction on the write connection: many changes, each whole or not at all.
///
/// The rows of the users touched are written at its end, once a user.
final class StateTransaction {
    let connection: SQLiteConnection
    let reader: StateReader
    let hash: KeyedHash
    let limits: UserStateLimits
    let now: Double
    private let known: (String) -> StoredUser?
    private let seed: (String) -> UserSeed?
    private var drafts: [ExactString: Draft] = [:]
    /// Users touched by the change under way, as they were before it; nil for those it was the first to
    /// touch.
    private var undo: [ExactString: Draft.State?] = [:]
    private var nextKey: Int64
    /// Whether anyone was ever erased.
    var hasErased: Bool
    /// Counts every change of every user, over all commits.
    var clock: Int64
    /// The count before this transaction.
    let start: Int64

    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - known: a user as commit `knownAt` left it, where that is in memory.
    ///   - knownAt: if the newest commit is another one, nothing of `known` is used.
    init(
        _ connection: SQLiteConnection, hash: KeyedHash, limits: UserStateLimits, now: Double,
        known: @escaping (String) -> StoredUser?, knownAt: Int64, seed: @escaping (String) -> UserSeed?
    ) throws(SQLiteError) {
        self.connection = connection
        self.hash = hash
        self.limits = limits
        self.now = now
        self.seed = seed
        reader = StateReader(connection, hash: hash)
        try connection.run("BEGIN IMMEDIATE")
        start = try StateSchema.commit(connection)
        self.known = start == knownAt ? known : { _ in nil }
        clock = start
        hasErased = try connection.integer("SELECT EXISTS(SELECT 1 FROM erased)") == 1
        nextKey = (try connection.integer("SELECT max(key) FROM user") ?? 0) + 1
    }

    /// Applies one change.
    /// - Parameter isGuarded: takes back what the change did where it fails by its own fault; else it throws.
    ///   A guard costs copies of all pages that the change touches.
    func apply(
        _ change: UserChange, isGuarded: Bool
    ) throws(SQLiteError) -> Result<ChangeOutcome, UserStateError> {
        undo.removeAll(keepingCapacity: true)
        guard isGuarded else { return .success(try outcome(of: change)) }
        try connection.run("SAVEPOINT change")
        let before = (clock, nextKey)
        do throws(SQLiteError) {
            let outcome = try outcome(of: change)
            try connection.run("RELEASE change")
            return .success(outcome)
        } catch {
            // What fails a disk has undone the transaction, or must.
            guard error.isOfStatement, connection.isInTransaction else { throw error }
            try connection.run("ROLLBACK TO change")
            try connection.run("RELEASE change")
            for (exact, was) in undo {
                guard let was, let draft = drafts[exact] else {
                    drafts[exact] = nil
                    continue
                }
                draft.state = was
                draft.events = nil
            }
            (clock, nextKey) = before
            return .failure(.unavailable(error.reason))
        }
    }

    /// Writes the users' rows and makes everything durable.
    /// - Returns: the users changed, as readers are to see them; nil where that must be read.
    func commit() throws(SQLiteError) -> [(id: String, user: StoredUser?)] {
        var changed: [(id: String, user: StoredUser?)] = []
        for draft in drafts.values where draft.state.isChanged {
            try trim(draft)
            try write(draft)
            changed.append((draft.id, draft.user))
        }
        if clock > start {
            try connection.run("UPDATE meta SET value = ? WHERE name = 'commit'", .integer(clock))
        }
        try connection.run("COMMIT")
        return changed
    }

    // MARK: Users

    /// The user as the changes so far leave it.
    func draft(_ id: String) throws(SQLiteError) -> Draft {
        let exact = ExactString(id)
        if let found = drafts[exact] {
            if undo[exact] == nil { undo[exact] = .some(found.state) }
            return found
        }
        let draft = Draft(id: id, state: Draft.State(), events: [])
        if let user = known(id), let key = user.place.key {
            try take(user, key, into: draft)
        } else {
            if hasErased, let sequence = try reader.erasure(id) {
                (draft.state.sequence, draft.state.isErased) = (sequence, true)
            }
            if let row = try reader.row(id) { try load(row, into: draft) }
        }
        undo[exact] = .some(nil)
        drafts[exact] = draft
        return draft
    }

    /// Spares all reading: what is in memory may only hold events that ageing has dropped from the table.
    private func take(_ user: StoredUser, _ key: Int64, into draft: Draft) throws(SQLiteError) {
        var events = user.events
        var dropped = 0
        if let retention = limits.retention, let oldest = events.first, oldest.time < now - retention {
            dropped = try StateAgeing.dropEvents(of: key, before: now - retention, connection)
            events.drop(before: now - retention)
        }
        draft.state = Draft.State(
            key: key, isStored: true, sequence: user.sequence, total: user.total, kept: events.count,
            newest: events.last?.time, remembered: user.place.remembered, features: user.features,
            hasConsent: user.hasConsent, isErased: user.isErased, isChanged: dropped > 0)
        draft.events = events
    }

    private func load(_ row: StateReader.Row, into draft: Draft) throws(SQLiteError) {
        var dropped = 0
        if let retention = limits.retention {
            dropped = try StateAgeing.dropEvents(of: row.key, before: now - retention, connection)
        }
        draft.state = Draft.State(
            key: row.key, isStored: true, sequence: row.sequence, total: row.total, kept: row.kept - dropped,
            newest: try reader.newest(row.key), remembered: row.remembered, features: row.features,
            hasConsent: row.hasConsent, isErased: draft.state.isErased, isChanged: dropped > 0)
        draft.events = nil
    }

    /// Counts a change of the user.
    func change(_ draft: Draft) {
        draft.state.sequence = clock
        draft.state.isChanged = true
    }

    /// What else is known of a user who has no row; nothing of one who was erased.
    func seed(of draft: Draft) -> UserSeed? {
        guard draft.state.key == nil, !draft.state.isErased, var seed = seed(draft.id) else { return nil }
        seed.events.sort { $0.time < $1.time }
        return seed
    }

    /// The user's key; a user without one gets it, and the seed for a start.
    func key(of draft: Draft, startingWith seed: UserSeed?) throws(SQLiteError) -> Int64 {
        if let key = draft.state.key { return key }
        let key = nextKey
        nextKey += 1
        draft.state.key = key
        draft.state.total = seed?.offset ?? 0
        for event in seed?.events ?? [] {
            clock += 1
            try insert(event, of: key)
            draft.insert(event)
        }
        return key
    }

    /// A new row for an event, with the number that the clock shows.
    func insert(_ event: StoredEvent, of key: Int64) throws(SQLiteError) {
        try connection.run(
            """
            INSERT INTO held(
                user, kind, time, number, item, action, event_id, value, recommendation_id, position)
            VALUES(?, 0, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            .integer(key), .real(event.time), .integer(clock), .text(event.itemID),
            event.action.map { .text($0) } ?? .null, .text(event.eventID),
            event.value.map { .real($0) } ?? .null,
            event.recommendationID.map { .text($0) } ?? .null,
            event.position.map { .integer(Int64($0)) } ?? .null)
    }

    private func trim(_ draft: Draft) throws(SQLiteError) {
        guard let key = draft.state.key, draft.state.kept > limits.historyMaximum else { return }
        try connection.run(
            """
            DELETE FROM held WHERE user = ?1 AND kind = 0 AND (time, number) IN
                (SELECT time, number FROM event WHERE user = ?1 ORDER BY time, number LIMIT ?2)
            """,
            .integer(key), .integer(Int64(draft.state.kept - limits.historyMaximum)))
        draft.trim(to: limits.historyMaximum)
    }

    private func write(_ draft: Draft) throws(SQLiteError) {
        let state = draft.state
        guard let key = state.key else { return }
        if !state.isStored || state.isProfileChanged {
            let values: [SQLiteValue] = [
                .integer(state.hasConsent ? 1 : 0), .text(FeatureText.encode(state.features)), .integer(key),
            ]
            if state.isStored {
                try connection.run("UPDATE user SET consent = ?, features = ? WHERE key = ?", values)
            } else {
                try connection.run(
                    "INSERT INTO user(consent, features, key, id) VALUES(?, ?, ?, ?)",
                    values + [.text(draft.id)])
            }
        }
        let counts: [SQLiteValue] = [
            .integer(state.sequence), .integer(Int64(state.total)), .integer(Int64(state.kept)),
            state.remembered.map { .real($0) } ?? .null, .integer(key),
        ]
        if state.isStored {
            try connection.run(
                """
                UPDATE held SET sequence = ?, total = ?, kept = ?, remembered = ?
                WHERE user = ? AND kind = 1 AND time = 0 AND number = 0
                """, counts)
        } else {
            try connection.run(
                """
                INSERT INTO held(sequence, total, kept, remembered, user, kind, time, number)
                VALUES(?, ?, ?, ?, ?, 1, 0, 0)
                """, counts)
        }
    }
}
