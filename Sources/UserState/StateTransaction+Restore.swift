internal import RecCore

/// The user whose lines are being read: a user's line and the events right behind it belong together.
struct RestoredUser {
    var id: String
    /// Events that the user has at least, once all lines are read.
    var total: Int?
    /// Why the events are not taken; nil takes them.
    var refusal: RestoreOutcome?
}

/// What became of one line.
enum RestoreOutcome {
    case stored, duplicate, user
    /// The user does not consent here.
    case noConsent
    /// Older than what is retained.
    case tooOld
    /// The user was erased here, and the file does not know of it.
    case erased
}

/// Takes in what was exported, or comes from elsewhere: old by nature, so no event is too late.
extension StateTransaction {
    /// Takes one record.
    /// - Parameter current: the user whose lines are being read; carried from record to record, over
    ///   transactions too, and ended by `endRestore`.
    func restore(
        _ record: StateRecord, _ current: inout RestoredUser?
    ) throws(SQLiteError) -> RestoreOutcome {
        switch record {
        case .user(let user):
            try endRestore(&current)
            let refusal = try restore(user)
            current = RestoredUser(id: user.id, total: user.total, refusal: refusal)
            return refusal == .erased ? .erased : .user
        case .event(let id, let event):
            // Swift's own comparison takes different ids for one where Unicode does.
            if let current, ExactString(current.id) == ExactString(id) {
                if let refusal = current.refusal { return refusal }
                return try restore(event, of: try draft(id))
            }
            try endRestore(&current)
            let draft = try draft(id)
            if draft.state.isErased { return .erased }
            guard draft.state.hasConsent else { return .noConsent }
            return try restore(event, of: draft)
        }
    }

    /// Counts what the user's line said beyond the events that came.
    func endRestore(_ current: inout RestoredUser?) throws(SQLiteError) {
        defer { current = nil }
        guard let user = current, user.refusal != .erased, let total = user.total else { return }
        let draft = try draft(user.id)
        guard draft.state.total < total else { return }
        draft.state.total = total
        clock += 1
        change(draft)
    }

    /// - Returns: why the user's events are not taken; nil takes them.
    private func restore(_ user: StateRecord.KeptUser) throws(SQLiteError) -> RestoreOutcome? {
        let draft = try draft(user.id)
        let before = draft.state
        // What was erased here comes back only from a file that was made after that.
        if before.isErased, !user.isErased { return .erased }
        let isNew = before.key == nil
        _ = try key(of: draft, startingWith: nil)
        let isWithdrawn = !isNew && !before.hasConsent
        draft.state.hasConsent = !isWithdrawn && (user.hasConsent ?? before.hasConsent)
        draft.state.features = user.features ?? before.features
        draft.state.isErased = user.isErased
        let isErasureNew = user.isErased && !before.isErased
        if isNew || isErasureNew || draft.state.hasConsent != before.hasConsent
            || draft.state.features != before.features
        {
            clock += 1
            draft.state.isProfileChanged = true
            if isErasureNew {
                hasErased = true
                try connection.run(Self.insertErased, .blob(hash.hash(user.id)), .integer(clock))
            }
            change(draft)
        }
        return isWithdrawn && user.hasConsent != false ? .noConsent : nil
    }

    private static let insertErased: StaticString =
        "INSERT OR REPLACE INTO erased(hash, sequence) VALUES(?, ?)"

    private func restore(
        _ event: StoredEvent, of draft: Draft
    ) throws(SQLiteError) -> RestoreOutcome {
        if let retention = limits.retention, event.time < now - retention { return .tooOld }
        let idHash = hash.number(event.eventID)
        if let key = draft.state.key {
            if try memory(idHash, of: key) == .recent { return .duplicate }
            // Ids are remembered for some days, events for longer.
            let isKept = try connection.integer(
                "SELECT 1 FROM event WHERE user = ? AND time = ? AND event_id = ?",
                .integer(key), .real(event.time), .text(event.eventID))
            if isKept != nil { return .duplicate }
        }
        let key = try key(of: draft, startingWith: nil)
        _ = try remember(idHash, of: key, draft)
        clock += 1
        try insert(event, of: key)
        draft.insert(event)
        change(draft)
        return .stored
    }
}
