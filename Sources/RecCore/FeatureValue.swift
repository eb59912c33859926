/// A feature as a caller or an attribute gives it, before encoding.
public enum FeatureValue: Sendable, Equatable {
    case string(String)
    case number(Double)
    case boolean(Bool)
    /// At most 64 values.
    case strings([String])
}

/// Features by name; JSON null and absence are the same.
public typealias FeatureValues = [String: FeatureValue]
