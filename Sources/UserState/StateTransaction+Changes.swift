internal import RecCore

/// What each kind of change does.
extension StateTransaction {
    func outcome(of change: UserChange) throws(SQLiteError) -> ChangeOutcome {
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

    private func append(_ event: StoredEvent, to id: String) throws(SQLiteError) -> EventOutcome {
        let draft = try draft(id)
        guard draft.state.hasConsent else { return .refused(.noConsent) }
        let eventHash = hash.hash(event.eventID)
        var memory = Memory.none
        if let key = draft.state.key { memory = try self.memory(eventHash, of: key) }
        if memory == .recent { return .duplicate(sequence: draft.state.sequence) }
        let start = seed(of: draft)
        // A wrong clock must not shut out what comes after it: nothing is newer than now.
        let newest = (draft.state.newest ?? start?.events.last?.time).map { min($0, now) }
        if let newest, event.time < newest - limits.lateness { return .refused(.tooOld) }
        if let retention = limits.retention, event.time < now - retention { return .refused(.tooOld) }
        let key = try key(of: draft, startingWith: start)
        clock += 1
        try insert(event, of: key)
        try remember(eventHash, of: key, memory)
        draft.insert(event)
        change(draft)
        return .stored(sequence: clock)
    }

    /// What is remembered of an event's id.
    enum Memory {
        case none
        /// It came before the days for which ids are remembered.
        case expired
        case recent
    }

    /// Remembers the id of the event with the number that the clock shows.
    func remember(_ eventHash: [UInt8], of key: Int64, _ memory: Memory) throws(SQLiteError) {
        // Not OR REPLACE: a statement that may undo itself keeps copies of all pages that it touches.
        if memory == .expired {
            try connection.run(
                "DELETE FROM seen WHERE user = ? AND hash = ?", .integer(key), .blob(eventHash))
        }
        try connection.run(
            "INSERT INTO seen(number, user, hash, received) VALUES(?, ?, ?, ?)",
            .integer(clock), .integer(key), .blob(eventHash), .real(now))
    }

    func memory(_ eventHash: [UInt8], of key: Int64) throws(SQLiteError) -> Memory {
        let isRecent = try connection.integer(
            "SELECT received >= ? FROM seen WHERE user = ? AND hash = ?",
            .real(now - limits.eventIDs), .integer(key), .blob(eventHash))
        return isRecent.map { $0 == 1 ? .recent : .expired } ?? .none
    }

    private func update(
        _ id: String, _ featureChange: FeatureChange?, _ hasConsent: Bool?
    ) throws(SQLiteError) -> StoredUser? {
        let draft = try draft(id)
        var features = draft.state.features
        if let featureChange {
            guard let changed = featureChange.applied(to: features) else { return nil }
            features = changed
        }
        let key = try key(of: draft, startingWith: seed(of: draft))
        clock += 1
        draft.state.features = features
        if let hasConsent { draft.state.hasConsent = hasConsent }
        if draft.events == nil { draft.events = try reader.events(key) }
        change(draft)
        return draft.user
    }

    private func remove(_ eventID: String, of id: String) throws(SQLiteError) -> Bool {
        let draft = try draft(id)
        guard let key = draft.state.key, let place = try reader.place(of: eventID, key) else { return false }
        try connection.run(
            "DELETE FROM event WHERE user = ? AND time = ? AND number = ?",
            .integer(key), .real(place.time), .integer(place.number))
        clock += 1
        draft.remove(eventID, newest: try reader.newest(key))
        change(draft)
        return true
    }

    private func erase(_ id: String) throws(SQLiteError) -> Bool {
        let draft = try draft(id)
        let isFound = draft.state.key != nil || seed(of: draft) != nil
        if let key = draft.state.key {
            try connection.run("DELETE FROM event WHERE user = ?", .integer(key))
            try connection.run("DELETE FROM seen WHERE user = ?", .integer(key))
            try connection.run("DELETE FROM user WHERE key = ?", .integer(key))
        }
        clock += 1
        try connection.run(
            "INSERT OR REPLACE INTO erased(hash, sequence) VALUES(?, ?)",
            .blob(hash.hash(id)), .integer(clock))
        draft.clear(erasedAt: clock)
        change(draft)
        return isFound
    }
}
