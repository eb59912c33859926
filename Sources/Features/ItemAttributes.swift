public import RecCore

/// What the catalogue knows about its items, for encoding them once when a bundle is loaded.
public protocol ItemAttributes {
    /// The value of the manifest's attribute number `attribute` for the item at `row`; nil when it is
    /// missing.
    func value(row: Int, attribute: Int) -> FeatureValue?
}

/// A catalogue without attributes.
public struct NoItemAttributes: ItemAttributes {
    /// The only one there is.
    public init() {}

    /// Always nil.
    public func value(row: Int, attribute: Int) -> FeatureValue? { nil }
}
