/// Where a candidate came from; several sources may name one item.
public struct CandidateSources: OptionSet, Sendable, Hashable {
    /// One bit per source.
    public let rawValue: UInt16
    /// The set of these bits.
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// The user tower's vector through the index.
    public static let tower = CandidateSources(rawValue: 1)
    /// The sequence model's last row against its item table.
    public static let sequence = CandidateSources(rawValue: 2)
    /// Neighbours of the last events' items.
    public static let itemToItem = CandidateSources(rawValue: 4)
    /// The most popular items.
    public static let popular = CandidateSources(rawValue: 8)
    /// Named by the request.
    public static let request = CandidateSources(rawValue: 16)
    /// An exact scan of the matching rows, when filters starve the shortlist.
    public static let scan = CandidateSources(rawValue: 32)
    /// Pinned by the placement.
    public static let pinned = CandidateSources(rawValue: 64)

    /// Every source with its name in answers, metrics and the manifest.
    public static let named: [(source: CandidateSources, name: String)] = [
        (.tower, "tower"), (.sequence, "sequence"), (.itemToItem, "item_to_item"), (.popular, "popular"),
        (.request, "request"), (.scan, "scan"), (.pinned, "pinned"),
    ]

    /// The names of the set's sources, in the order of `named`.
    public var names: [String] { Self.named.filter { contains($0.source) }.map(\.name) }
}

/// One item on its way from retrieval to the answer.
public struct Candidate: Sendable {
    /// Catalogue row.
    public let row: Int
    /// Every source that named it.
    public var sources: CandidateSources
    /// Exact score of the item vector against the query by the bundle's metric.
    public var retrievalScore: Float
    /// The caller's own features of this candidate, over the item's attributes.
    public var features: FeatureValues

    /// A candidate named by `sources`.
    public init(row: Int, sources: CandidateSources, retrievalScore: Float = 0, features: FeatureValues = [:])
    {
        self.row = row
        self.sources = sources
        self.retrievalScore = retrievalScore
        self.features = features
    }
}
