import Artifacts
import RecCore
import Retrieval

/// The bundle's known users: row by id, stored features, and starting histories. Frozen, shared by all
/// threads.
struct UserDirectory: Sendable {
    let count: Int
    private let ids: StringTable
    private let attributes: [(name: String, column: AttributeColumn)]
    private let histories: Histories?

    /// Histories end to end: user u has events `offsets[u]..<offsets[u + 1]`.
    private struct Histories: Sendable {
        let offsets: [Int]
        let rows: [UInt32]
        let actions: [UInt32]?
        let times: [Double]?
    }

    /// Reads `user_ids`, `user.attr.` and `history.`; throws naming the tensor that does not fit.
    init(_ configuration: UsersConfiguration, itemCount: Int, actionCount: Int, tensors: BundleTensors)
        throws(BundleError)
    {
        count = configuration.count
        let names = try tensors.strings("user_ids", count: count)
        ids = StringTable(names)
        if let repeated = ids.repeated {
            throw BundleError(
                file: "bundle", tensor: "user_ids", expected: "different ids",
                found: "\"\(names[repeated])\" twice")
        }
        var attributes: [(name: String, column: AttributeColumn)] = []
        for definition in configuration.attributes {
            attributes.append(
                (
                    definition.name,
                    try AttributeColumn(definition, prefix: "user.attr.", rows: count, tensors: tensors)
                ))
        }
        self.attributes = attributes
        histories =
            configuration.hasHistories
            ? try Self.histories(users: count, itemCount: itemCount, actionCount: actionCount, tensors) : nil
    }

    private static func histories(
        users: Int, itemCount: Int, actionCount: Int, _ tensors: BundleTensors
    ) throws(BundleError) -> Histories {
        let rows = try tensors.integers("history.items", count: nil, below: itemCount)
        let hasActions = tensors.contains("history.actions"),
            hasTimes = tensors.contains("history.timestamps")
        return Histories(
            offsets: try tensors.offsets("history.offsets", count: users, total: rows.count), rows: rows,
            actions: hasActions
                ? try tensors.integers("history.actions", count: rows.count, below: actionCount) : nil,
            times: hasTimes ? try tensors.doubles("history.timestamps", count: rows.count) : nil)
    }

    /// The row of a user id, nil when it is unknown.
    func row(of id: String) -> Int? { ids.position(of: id) }

    /// The stored features of a row.
    func features(_ row: Int) -> FeatureValues {
        var features: FeatureValues = [:]
        for (name, column) in attributes { features[name] = column.value(row) }
        return features
    }

    /// The last `limit` events of a row's starting history, and how many older ones were left out.
    func history(_ row: Int, limit: Int) -> (events: [HistoryEvent], offset: Int) {
        guard let histories else { return ([], 0) }
        let all = histories.offsets[row]..<histories.offsets[row + 1]
        let first = max(all.lowerBound, all.upperBound - limit)
        let events = (first..<all.upperBound).map { index in
            HistoryEvent(
                row: Int(histories.rows[index]), action: histories.actions.map { Int($0[index]) } ?? 0,
                time: histories.times.map { $0[index] })
        }
        return (events, first - all.lowerBound)
    }
}
