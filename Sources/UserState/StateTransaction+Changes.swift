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
        let start = seed(of: draft)
        // A wrong clock must not shut out what comes after it: nothing is newer than now.
        let newest = (draft.state.newest ?? start?.events.last?.time).map { min($0, now) }
        let isTooOld =
            newest.map { event.time < $0 - limits.lateness } ?? false
            || limits.retention.map { event.time < now - $0 } ?? false
        let idHash = hash.number(event.eventID)
        if isTooOld {
            guard let key = draft.state.key, try memory(idHash, of: key) == .recent else {
                return .refused(.tooOld)
            }
            return .duplicate(sequence: draft.state.sequence)
        }
        let key = try key(of: draft, startingWith: start)
        guard try remember(idHash, of: key, draft) else {
            return .duplicate(sequence: draft.state.sequence)
        }
        clock += 1
        try insert(event, of: key)
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

    /// Remembers an event's id from now on; false when it came within the last days.
    func remember(_ idHash: Int64, of key: Int64, _ draft: Draft) throws(SQLiteError) -> Bool {
        try connection.run(
            "INSERT OR IGNORE INTO held(user, kind, time, number, value) VALUES(?, 2, 0, ?, ?)",
            .integer(key), .integer(idHash), .real(now))
        if connection.changes == 0 {
            guard try memory(idHash, of: key) == .expired else { return false }
            try connection.run(
                "UPDATE held SET value = ? WHERE user = ? AND kind = 2 AND time = 0 AND number = ?",
                .real(now), .integer(key), .integer(idHash))
        }
        draft.state.remembered = min(draft.state.remembered ?? now, now)
        return true
    }

    func memory(_ idHash: Int64, of key: Int64) throws(SQLiteError) -> Memory {
        let isRecent = try connection.integer(
            "SELECT received >= ? FROM seen WHERE user = ? AND hash = ?",
            .real(now - limits.eventIDs), .integer(key), .integer(idHash))
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
        draft.state.isProfileChanged = true
        if draft.events == nil { draft.events = try reader.events(key) }
        change(draft)
        return draft.user
    }

    private func remove(_ eventID: String, of id: String) throws(SQLiteError) -> Bool {
        let draft = try draft(id)
        guard let key = draft.state.key, let place = try reader.place(of: eventID, key) else { return false }
        try connection.run(
            "DELETE FROM held WHERE user = ? AND kind = 0 AND time = ? AND number = ?",
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
            try connection.run("DELETE FROM held WHERE user = ?", .integer(key))
            try connection.run("DELETE FROM user WHERE key = ?", .integer(key))
        }
        clock += 1
        try connection.run(
            "INSERT OR REPLACE INTO erased(hash, sequence) VALUES(?, ?)",
            .blob(hash.hash(id)), .integer(clock))
        draft.clear(erasedAt: clock)
        hasErased = true
        change(draft)
        return isFound
    }
}
