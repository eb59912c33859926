public import RecCore

/// What becomes of a user's features: decided where they are kept, so that changes made at once all count.
public enum FeatureChange: Sendable {
    /// These and no others.
    case replace(FeatureValues)
    /// These beside the others; nil takes one away.
    case merge([String: FeatureValue?])

    /// Most features of a user.
    public static let countMaximum = 256
    /// Most bytes of a user's features: names and texts together.
    public static let byteCountMaximum = 65_536

    /// The features that follow; nil where they would be more than may be kept.
    func applied(to old: FeatureValues) -> FeatureValues? {
        var features: FeatureValues
        switch self {
        case .replace(let new): features = new
        case .merge(let new):
            features = old
            for (name, value) in new { features[name] = value }
        }
        guard features.count <= Self.countMaximum, Self.byteCount(features) <= Self.byteCountMaximum else {
            return nil
        }
        return features
    }

    private static func byteCount(_ features: FeatureValues) -> Int {
        features.reduce(0) { sum, feature in
            let texts: [String] =
                switch feature.value {
                case .string(let text): [text]
                case .strings(let texts): texts
                case .number, .boolean: []
                }
            return texts.reduce(sum + feature.key.utf8.count) { $0 + $1.utf8.count }
        }
    }
}
