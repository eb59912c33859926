/// Why retrieval refuses: wrong use of an index, a filter that does not fit the catalogue, or FAISS's own
/// words.
public enum RetrievalError: Error, Sendable, Equatable, CustomStringConvertible {
    /// A vector of another width than the index has.
    case dimensionMismatch(expected: Int, found: Int)
    /// A query with a NaN or an infinity.
    case notFinite
    /// An index that does not fit the vectors or the manifest.
    case invalidIndex(expected: String, found: String)
    /// FAISS or its shim failed: the call, and the text.
    case faiss(call: String, reason: String)
    /// A filter names an attribute that the catalogue has not.
    case unknownFilterField(String)
    /// A filter names an attribute that is not filterable.
    case notFilterable(String)
    /// A filter compares an attribute with something of another type.
    case filterType(field: String, expected: String)
    /// A filter deeper or longer than allowed.
    case filterTooLarge

    /// For a log or a command's error.
    public var description: String {
        switch self {
        case .dimensionMismatch(let expected, let found):
            "a vector of \(expected) columns expected, \(found) found"
        case .notFinite: "a query vector with NaN or infinity"
        case .invalidIndex(let expected, let found): "index: \(expected) expected, \(found) found"
        case .faiss(let call, let reason): "FAISS \(call): \(reason)"
        case .unknownFilterField(let field): "no attribute \(field)"
        case .notFilterable(let field): "attribute \(field) is not filterable"
        case .filterType(let field, let expected): "attribute \(field) is compared with \(expected) only"
        case .filterTooLarge: "a filter deeper or longer than allowed"
        }
    }
}
