internal import RecCore

/// One transaction on the write connection: many changes, each whole or not at all.
///
/// The rows of the users touched are written at its end, once a user.
final class StateTransaction {
    let connection: SQLiteConnection
    private let reader: StateReader
    let hash: KeyedHash
    let limits: UserStateLimits
    let now: Double
    private let known: (String) -> StoredUser?
    private let seed: (String) -> UserSeed?
    private var drafts: [ExactString: (id: String, draft: Draft)] = [:]
    /// Drafts as they were before the change under way.
    private var undo: [(key: ExactString, was: (id: String, draft: Draft)?)] = []
    private var nextKey: Int64
    /// Counts every change of every user, over all commits.
    var clock: Int64
    /// The count before this transaction.
    let start: Int64

    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - known: a user as all commits so far left it, where that is in memory.
    init(
        _ connection: SQLiteConnection, hash: KeyedHash, limits: UserStateLimits, now: Double,
        known: @escaping (String) -> StoredUser?, seed: @escaping (String) -> UserSeed?
    ) throws(SQLiteError) {
        self.connection = connection
        self.hash = hash
        self.limits = limits
        self.now = now
        self.known = known
        self.seed = seed
        reader = StateReader(connection, hash: hash)
        try connection.execute("BEGIN IMMEDIATE")
        start = try StateSchema.commit(connection)
        clock = start
        nextKey = (try connection.integer("SELECT max(key) FROM user") ?? 0) + 1
    }

    /// Applies one change; what it did is taken back where it fails by its own fault.
    func apply(_ change: UserChange) throws(SQLiteError) -> Result<ChangeOutcome, UserStateError> {
        try connection.run("SAVEPOINT change")
        undo = []
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
            for (key, was) in undo.reversed() { drafts[key] = was }
            (clock, nextKey) = before
            return .failure(.unavailable(error.reason))
        }
    }

    /// Writes the users' rows and makes everything durable.
    /// - Returns: the users changed, as readers are to see them; nil where that must be read.
    func commit() throws(SQLiteError) -> [(id: String, user: StoredUser?)] {
        var changed: [(id: String, user: StoredUser?)] = []
        for (id, draft) in drafts.values where draft.isChanged {
            var draft = draft
            try trim(&draft)
            try write(id, draft)
            changed.append((id, draft.user(id)))
        }
        if clock > start {
            try connection.run("UPDATE meta SET value = ? WHERE name = 'commit'", .integer(clock))
        }
        try connection.execute("COMMIT")
        return changed
    }

    private func outcome(of change: UserChange) throws(SQLiteError) -> ChangeOutcome {
        var outcome = ChangeOutcome()
        switch change {
        case .append(let events):
            outcome.events.reserveCapacity(events.count)
            for (id, event) in events { outcome.events.append(try append(event, to: id)) }
        case .update(let id, let features, let hasConsent):
            outcome.user = try update(id, features, hasConsent)
        case .removeEvent(let id, let eventID):
            outcome.isFound = try remove(eventID, of: id)
        case .erase(let id):
            outcome.isFound = try erase(id)
        }
        return outcome
    }

    // MARK: Changes

    private func append(_ event: StoredEvent, to id: String) throws(SQLiteError) -> EventOutcome {
        var draft = try draft(id)
        guard draft.hasConsent else { return .refused(.noConsent) }
        let eventHash = hash.hash(event.eventID)
        if let key = draft.key, try isSeen(eventHash, of: key) {
            return .duplicate(sequence: draft.sequence)
        }
        let start = draft.key == nil ? seedOf(id, draft) : nil
        // A wrong clock must not shut out what comes after it: nothing is newer than now.
        let newest = (draft.newest ?? start?.events.last?.time).map { min($0, now) }
        if let newest, event.time < newest - limits.lateness { return .refused(.tooOld) }
        if let retention = limits.retention, event.time < now - retention { return .refused(.tooOld) }
        if draft.key == nil { try create(&draft, with: start) }
        guard let key = draft.key else { return .refused(.tooOld) }
        clock += 1
        try insert(event, of: key)
        try markSeen(eventHash, of: key)
        draft.total += 1
        draft.kept += 1
        draft.newest = max(draft.newest ?? event.time, event.time)
        draft.insert(event)
        change(&draft, id)
        return .stored(sequence: clock)
    }

    private func update(
        _ id: String, _ featureChange: FeatureChange?, _ hasConsent: Bool?
    ) throws(SQLiteError) -> StoredUser? {
        var draft = try draft(id)
        var features = draft.features
        if let featureChange {
            guard let changed = featureChange.applied(to: features) else { return nil }
            features = changed
        }
        if draft.key == nil { try create(&draft, with: seedOf(id, draft)) }
        clock += 1
        draft.features = features
        if let hasConsent { draft.hasConsent = hasConsent }
        if draft.events == nil, let key = draft.key { draft.events = try reader.events(key) }
        change(&draft, id)
        return draft.user(id)
    }

    private func remove(_ eventID: String, of id: String) throws(SQLiteError) -> Bool {
        var draft = try draft(id)
        guard let key = draft.key else { return false }
        let statement = try connection.statement(
            "SELECT time, number FROM event WHERE user = ? AND event_id = ? ORDER BY time, number LIMIT 1")
        try statement.bind([.integer(key), .text(eventID)])
        defer { statement.reset() }
        guard try statement.step() else { return false }
        let (time, number) = (statement.real(0), statement.integer(1))
        statement.reset()
        try connection.run(
            "DELETE FROM event WHERE user = ? AND time = ? AND number = ?",
            .integer(key), .real(time), .integer(number))
        clock += 1
        draft.total -= 1
        draft.kept -= 1
        draft.newest = try reader.newest(key)
        if let place = draft.events?.firstIndex(where: { $0.eventID.utf8.elementsEqual(eventID.utf8) }) {
            draft.events?.remove(at: place)
        }
        change(&draft, id)
        return true
    }

    private func erase(_ id: String) throws(SQLiteError) -> Bool {
        let draft = try draft(id)
        let isFound = draft.key != nil || seedOf(id, draft) != nil
        if let key = draft.key {
            for table in ["event", "seen"] {
                try connection.run("DELETE FROM \(table) WHERE user = ?", .integer(key))
            }
            try connection.run("DELETE FROM user WHERE key = ?", .integer(key))
        }
        clock += 1
        try connection.run(
            "INSERT OR REPLACE INTO erased(hash, sequence) VALUES(?, ?)",
            .blob(hash.hash(id)), .integer(clock))
        var blank = Draft(erasedAt: clock)
        change(&blank, id)
        return isFound
    }

    // MARK: Parts of them

    func draft(_ id: String) throws(SQLiteError) -> Draft {
        let exact = ExactString(id)
        if let found = drafts[exact] { return found.draft }
        let erased = try reader.erasure(id)
        var draft = Draft(erasedAt: erased)
        if var row = try reader.row(id) {
            let cached = known(id)
            var events = cached?.sequence == row.sequence ? cached?.events : nil
            var dropped = 0
            if let retention = limits.retention {
                dropped = try StateAgeing.dropEvents(of: row.key, before: now - retention, connection)
                events?.drop(before: now - retention)
            }
            row.kept -= dropped
            draft = Draft(
                row, newest: try reader.newest(row.key), isErased: erased != nil, events: events)
            draft.isChanged = dropped > 0
        }
        undo.append((exact, nil))
        drafts[exact] = (id, draft)
        return draft
    }

    func change(_ draft: inout Draft, _ id: String) {
        let exact = ExactString(id)
        undo.append((exact, drafts[exact]))
        draft.sequence = clock
        draft.isChanged = true
        drafts[exact] = (id, draft)
    }

    private func seedOf(_ id: String, _ draft: Draft) -> UserSeed? {
        guard !draft.isErased, var seed = seed(id) else { return nil }
        seed.events.sort { $0.time < $1.time }
        return seed
    }

    func create(_ draft: inout Draft, with seed: UserSeed?) throws(SQLiteError) {
        let key = nextKey
        nextKey += 1
        draft.key = key
        draft.total = seed?.offset ?? 0
        for event in seed?.events ?? [] {
            clock += 1
            try insert(event, of: key)
            draft.total += 1
            draft.kept += 1
            draft.newest = event.time
            draft.insert(event)
        }
    }

    func isSeen(_ eventHash: [UInt8], of key: Int64) throws(SQLiteError) -> Bool {
        let number = try connection.integer(
            "SELECT number FROM seen WHERE user = ? AND hash = ? AND received >= ?",
            .integer(key), .blob(eventHash), .real(now - limits.eventIDs))
        return number != nil
    }

    func markSeen(_ eventHash: [UInt8], of key: Int64) throws(SQLiteError) {
        try connection.run(
            "INSERT OR REPLACE INTO seen(number, user, hash, received) VALUES(?, ?, ?, ?)",
            .integer(clock), .integer(key), .blob(eventHash), .real(now))
    }

    func insert(_ event: StoredEvent, of key: Int64) throws(SQLiteError) {
        try connection.run(
            """
            INSERT INTO event(user, time, number, item, action, event_id, value, recommendation_id, position)
            VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            .integer(key), .real(event.time), .integer(clock), .text(event.itemID),
            event.action.map { .text($0) } ?? .null, .text(event.eventID),
            event.value.map { .real($0) } ?? .null,
            event.recommendationID.map { .text($0) } ?? .null,
            event.position.map { .integer(Int64($0)) } ?? .null)
    }

    private func trim(_ draft: inout Draft) throws(SQLiteError) {
        guard let key = draft.key, draft.kept > limits.historyMaximum else { return }
        try connection.run(
            """
            DELETE FROM event WHERE user = ?1 AND (time, number) IN
                (SELECT time, number FROM event WHERE user = ?1 ORDER BY time, number LIMIT ?2)
            """,
            .integer(key), .integer(Int64(draft.kept - limits.historyMaximum)))
        draft.kept = limits.historyMaximum
        draft.trim(to: limits.historyMaximum)
    }

    private func write(_ id: String, _ draft: Draft) throws(SQLiteError) {
        guard let key = draft.key else { return }
        let values: [SQLiteValue] = [
            .integer(draft.sequence), .integer(Int64(draft.total)), .integer(Int64(draft.kept)),
            .integer(draft.hasConsent ? 1 : 0), .text(FeatureText.encode(draft.features)), .integer(key),
        ]
        let sql =
            draft.isStored
            ? "UPDATE user SET sequence = ?, total = ?, kept = ?, consent = ?, features = ? WHERE key = ?"
            : "INSERT INTO user(sequence, total, kept, consent, features, key, id) VALUES(?, ?, ?, ?, ?, ?, ?)"
        let statement = try connection.statement(sql)
        try statement.bind(draft.isStored ? values : values + [.text(id)])
        defer { statement.reset() }
        _ = try statement.step()
    }
}
