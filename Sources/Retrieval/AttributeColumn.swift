public import Artifacts
public import RecCore

/// One attribute of all items or users, in the storage of its type (ModelFormat.md §2).
///
/// Frozen, shared by all threads.
public struct AttributeColumn: Sendable {
    enum Storage: Sendable {
        case strings(StringColumn)
        /// `present` is nil when no value is missing.
        case numbers([Double], present: [UInt8]?)
        case booleans([UInt8], present: [UInt8]?)
    }
    let storage: Storage

    /// Reads the tensors `<prefix><name>.…` of `rows` rows; throws naming the one that does not fit.
    public init(_ definition: AttributeDefinition, prefix: String, rows: Int, tensors: BundleTensors)
        throws(BundleError)
    {
        let name = prefix + definition.name
        switch definition.type {
        case .string, .strings:
            storage = .strings(
                try StringColumn(
                    name, isList: definition.type == .strings, isFilterable: definition.isFilterable,
                    rows: rows,
                    tensors: tensors))
        case .number:
            storage = .numbers(
                try tensors.doubles(name + ".values", count: rows),
                present: try Self.present(name, rows: rows, tensors: tensors))
        case .boolean:
            storage = .booleans(
                try Self.flags(name + ".values", rows: rows, tensors: tensors),
                present: try Self.present(name, rows: rows, tensors: tensors))
        }
    }

    /// The value of `row`, nil when it is missing; an empty list is a value. Traps when out of range.
    public func value(_ row: Int) -> FeatureValue? {
        switch storage {
        case .strings(let column): column.value(row)
        case .numbers(let values, let present): present?[row] == 0 ? nil : .number(values[row])
        case .booleans(let values, let present): present?[row] == 0 ? nil : .boolean(values[row] != 0)
        }
    }

    /// One key per different value of `row`; of a filterable column equal values have equal keys.
    func valueKeys(_ row: Int) -> [UInt64] {
        switch storage {
        case .strings(let column):
            // A row may name a word twice.
            var codes: [UInt32] = []
            for code in column.values[column.offsets[row]..<column.offsets[row + 1]]
            where !codes.contains(code) { codes.append(code) }
            return codes.map(UInt64.init)
        // + 0 makes −0 and 0 one value.
        case .numbers(let values, let present):
            return present?[row] == 0 ? [] : [(values[row] + 0).bitPattern]
        case .booleans(let values, let present): return present?[row] == 0 ? [] : [UInt64(values[row])]
        }
    }

    private static func present(_ name: String, rows: Int, tensors: BundleTensors) throws(BundleError)
        -> [UInt8]?
    {
        guard tensors.contains(name + ".present") else { return nil }
        return try flags(name + ".present", rows: rows, tensors: tensors)
    }

    private static func flags(_ name: String, rows: Int, tensors: BundleTensors) throws(BundleError)
        -> [UInt8]
    {
        let values = try tensors.bytes(name, count: rows)
        if let bad = values.first(where: { $0 > 1 }) {
            throw BundleError(file: "bundle", tensor: name, expected: "0 or 1", found: "\(bad)")
        }
        return values
    }
}

/// Strings by dictionary codes: row i has the codes `values[offsets[i]..<offsets[i + 1]]`.
struct StringColumn: Sendable {
    let offsets: [Int]
    let values: [UInt32]
    private let dictionary: StringList
    private let isList: Bool
    private let codes: StringTable?

    init(
        _ name: String, isList: Bool, isFilterable: Bool, rows: Int, tensors: BundleTensors
    ) throws(BundleError) {
        dictionary = try tensors.strings(name + ".dictionary", count: nil)
        let raw = try tensors.integers(name + ".values", count: nil, below: dictionary.count)
        offsets = try tensors.offsets(name + ".offsets", count: rows, total: raw.count)
        if !isList, let row = (0..<rows).first(where: { [offsets] in offsets[$0 + 1] - offsets[$0] > 1 }) {
            throw BundleError(
                file: "bundle", tensor: name + ".offsets", expected: "at most one value a row",
                found: "\(offsets[row + 1] - offsets[row]) in row \(row)")
        }
        self.isList = isList
        if isFilterable {
            let table = StringTable(dictionary)
            // A dictionary that repeats a word: its first code stands for all.
            values = table.repeated == nil ? raw : raw.map { table.firsts[Int($0)] }
            codes = table
        } else {
            values = raw
            codes = nil
        }
    }

    /// The code of a word, nil when no item has it.
    func code(of word: String) -> UInt32? { codes?.position(of: word).map { UInt32($0) } }

    func value(_ row: Int) -> FeatureValue? {
        let range = offsets[row]..<offsets[row + 1]
        if isList { return .strings(values[range].map { dictionary[Int($0)] }) }
        return values[range].first.map { .string(dictionary[Int($0)]) }
    }
}
