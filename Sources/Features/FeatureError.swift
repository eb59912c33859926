/// Why a request's value cannot be encoded; the peer's fault, with the feature to name in the answer.
public enum FeatureError: Error, Sendable, Equatable, CustomStringConvertible {
    /// An array where the feature takes one value.
    case arrayNotAllowed(feature: String, key: String)
    /// A number that is not finite, or is not once it is encoded.
    case outOfRange(feature: String, key: String)

    /// The field or attribute that was read.
    public var key: String {
        switch self {
        case .arrayNotAllowed(_, let key), .outOfRange(_, let key): key
        }
    }

    /// What was wrong, for the peer.
    public var description: String {
        switch self {
        case .arrayNotAllowed(let feature, let key):
            "\(key): the feature \(feature) takes one value, not an array"
        case .outOfRange(let feature, let key):
            "\(key): the number is out of range for the feature \(feature)"
        }
    }
}
