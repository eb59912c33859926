/// Why user state could not be read or written.
public enum UserStateError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The store refuses or fails: disk full, input/output error, damaged file. Nothing of the change is
    /// kept.
    case unavailable(String)
    /// The folder cannot be used at all.
    case unusable(path: String, reason: String)
    /// Too many changes wait already.
    case busy

    /// One sentence without user ids.
    public var description: String {
        switch self {
        case .unavailable(let reason): "the user state is unavailable: \(reason)"
        case .unusable(let path, let reason): "\(path): \(reason)"
        case .busy: "too many changes are waiting"
        }
    }
}
