public import Artifacts
public import Kernels
public import RecCore

/// What is known of every item: its id, attributes and popularity, by catalogue row.
///
/// Frozen, shared by all threads.
public final class ItemCatalog: Sendable {
    /// Rows.
    public let count: Int
    /// Attributes in the manifest's order.
    public let attributes: [AttributeDefinition]
    /// [1, count]; larger is more popular.
    public let popularity: Matrix
    /// All rows, the most popular first, ties by row.
    public let popularOrder: [UInt32]

    private let ids: StringList
    private let rows: StringTable
    private let columns: [AttributeColumn]
    private let columnOf: [String: Int]

    /// Reads `item_ids`, `item.popularity` and the `item.attr.` tensors; throws naming the tensor that does
    /// not fit.
    public init(_ configuration: ItemsConfiguration, tensors: BundleTensors) throws(BundleError) {
        count = configuration.count
        attributes = configuration.attributes
        ids = try tensors.strings("item_ids", count: configuration.count)
        // 128: the API's limit on ids.
        if let bad = (0..<ids.count).first(where: { [ids] in !(1...128).contains(ids.byteCount($0)) }) {
            throw BundleError(
                file: "bundle", tensor: "item_ids.offsets", expected: "ids of 1...128 bytes",
                found: "\(ids.byteCount(bad)) in row \(bad)")
        }
        rows = StringTable(ids)
        if let row = rows.repeated {
            throw BundleError(
                file: "bundle", tensor: "item_ids.bytes", expected: "different ids",
                found: "row \(row) repeating row \(rows.firsts[row])")
        }
        popularity = try tensors.vector("item.popularity", count: configuration.count)
        popularOrder = Self.order(popularity)
        var columns: [AttributeColumn] = []
        var columnOf: [String: Int] = [:]
        for definition in configuration.attributes {
            columnOf[definition.name] = columns.count
            columns.append(
                try AttributeColumn(
                    definition, prefix: "item.attr.", rows: configuration.count, tensors: tensors))
        }
        self.columns = columns
        self.columnOf = columnOf
    }

    /// The row of an item id, nil when it is unknown.
    public func row(of id: String) -> Int? { rows.position(of: id) }

    /// The row of an item id given as UTF-8.
    public func row(ofUTF8 id: Span<UInt8>) -> Int? { rows.position(of: id) }

    /// The id of a row; traps when out of range.
    public func id(_ row: Int) -> String { ids[row] }

    /// The UTF-8 of a row's id; traps when out of range.
    public func utf8ID(_ row: Int) -> ArraySlice<UInt8> { ids.utf8(row) }

    /// The value of an attribute in `row`, nil when it is missing or there is no such attribute; traps when
    /// out of range.
    public func attribute(_ row: Int, _ name: String) -> FeatureValue? {
        guard let index = columnOf[name] else { return nil }
        return columns[index].value(row)
    }

    /// Whether the catalogue has an attribute of this name.
    public func hasAttribute(_ name: String) -> Bool { columnOf[name] != nil }

    /// The number of a filterable attribute, for `valueKeys`.
    /// - Throws: `.unknownFilterField` or `.notFilterable`.
    public func filterableAttribute(_ name: String) throws(RetrievalError) -> Int {
        guard let index = columnOf[name] else { throw .unknownFilterField(name) }
        guard attributes[index].isFilterable else { throw .notFilterable(name) }
        return index
    }

    /// One key per value that `row` has of a filterable attribute, the same for the same value; empty where
    /// it is missing. Traps when out of range.
    public func valueKeys(_ row: Int, attribute: Int) -> [UInt64] { columns[attribute].valueKeys(row) }

    /// A filter with its fields and strings resolved.
    ///
    /// Throws `.unknownFilterField`, `.notFilterable`, `.filterType` or `.filterTooLarge`.
    public func compile(_ filter: ItemFilter) throws(RetrievalError) -> CompiledFilter {
        try CompiledFilter(filter) { (field: String) throws(RetrievalError) in
            columns[try filterableAttribute(field)]
        }
    }

    private static func order(_ popularity: Matrix) -> [UInt32] {
        let scores = popularity.copyRow(0)
        return (0..<UInt32(scores.count)).sorted { (scores[Int($1)], $0) < (scores[Int($0)], $1) }
    }
}
