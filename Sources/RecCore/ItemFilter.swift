/// A condition on item attributes, as `filter` in a request says it.
public indirect enum ItemFilter: Sendable, Equatable {
    case all([ItemFilter])
    case any([ItemFilter])
    case not(ItemFilter)
    /// The attribute has one of these values (a multi-valued attribute: any of its values).
    case isIn(field: String, values: [FilterValue])
    /// The attribute is a number within all given bounds.
    case range(field: String, greaterOrEqual: Double?, greater: Double?, lessOrEqual: Double?, less: Double?)
}

/// A literal in a filter.
public enum FilterValue: Sendable, Equatable, Hashable {
    case string(String)
    case number(Double)
    case boolean(Bool)
}
