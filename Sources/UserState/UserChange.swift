/// A change of what is kept, applied whole.
public enum UserChange: Sendable {
    /// Events of one or several users, in the order of arrival; each is kept, known already, or refused.
    case append([(user: String, event: StoredEvent)])
    /// New features and consent; nil leaves one as it is.
    case update(user: String, features: FeatureChange?, hasConsent: Bool?)
    /// One event less.
    case removeEvent(user: String, eventID: String)
    /// The user with everything held of it, so that no byte of it is left in any file.
    case erase(user: String)
}

/// What became of one event.
public enum EventOutcome: Sendable, Equatable {
    /// Kept; the user's sequence since then.
    case stored(sequence: Int64)
    /// An event of this user with this id is kept already, or was within the last days.
    case duplicate(sequence: Int64)
    /// Not kept.
    case refused(Refusal)

    /// Why an event is not kept.
    public enum Refusal: String, Sendable {
        /// The user does not consent.
        case noConsent = "no-consent"
        /// Older than the window in which events may arrive late, or than what is retained.
        case tooOld = "too-old"
    }
}

/// What became of a change, once it is durable.
public struct ChangeOutcome: Sendable, Equatable {
    /// One per event of `append`, in its order; empty otherwise.
    public var events: [EventOutcome] = []
    /// Whether there was anything to change: the user or event was known.
    public var isFound = true
    /// The user as it is now: after `update`; nil where its features would be more than may be kept, and
    /// nothing has changed.
    public var user: StoredUser?
    /// The commit that holds the change; later commits have larger numbers.
    public var commit: Int64 = 0

    /// An outcome of nothing.
    public init() {}
}
