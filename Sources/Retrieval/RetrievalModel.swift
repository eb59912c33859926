public import Artifacts
public import Kernels

/// All that retrieval knows of a bundle: catalogue, vectors and indexes.
///
/// Frozen, shared by all threads; each thread searches through a `Retriever` of its own.
public final class RetrievalModel: Sendable {
    /// Floor of the norms under the sequence model's dot head (ModelFormat.md §3.4).
    public static let sequenceNormFloor: Float = 1e-6

    /// The bundle's settings.
    public let configuration: RetrievalConfiguration
    /// Ids, attributes and popularity.
    public let catalog: ItemCatalog
    /// Index over `item.vector`.
    public let items: any VectorIndex
    /// The vectors behind `items`.
    public let table: VectorTable
    /// Index over the sequence model's item table, where it has a dot head and the source has a quota.
    public let sequence: (any VectorIndex)?

    /// Where neighbours of items are looked for: `item.similar` where the bundle has it, else `items`.
    public let similarIndex: any VectorIndex
    /// The vectors behind `similarIndex`.
    public let similarTable: VectorTable

    /// A model of parts made before; traps when they do not have the catalogue's number of rows.
    public init(
        configuration: RetrievalConfiguration, catalog: ItemCatalog, table: VectorTable,
        items: any VectorIndex, sequence: (any VectorIndex)? = nil,
        similar: (index: any VectorIndex, table: VectorTable)? = nil
    ) {
        let counts = [
            table.count, items.count, sequence?.count ?? catalog.count, similar?.index.count ?? catalog.count,
            similar?.table.count ?? catalog.count,
        ]
        precondition(
            counts.allSatisfy { $0 == catalog.count }, "\(catalog.count) items, but \(counts) vectors")
        self.configuration = configuration
        self.catalog = catalog
        self.table = table
        self.items = items
        self.sequence = sequence
        similarIndex = similar?.index ?? items
        similarTable = similar?.table ?? table
    }

    /// The metric of the sequence table under a dot head.
    public static func sequenceTable(_ vectors: Matrix, head: DotHead) -> VectorTable {
        head.normalize == .l2
            ? VectorTable(vectors, metric: .cosine, floor: sequenceNormFloor)
            : VectorTable(vectors, metric: .innerProduct)
    }

    /// FAISS's parameters for a table of another width than `item.vector`: the bundle's, with the most
    /// subquantizers that divide `dimension`.
    public static func adapted(_ index: IndexConfiguration, dimension: Int)
        -> IndexConfiguration
    {
        var index = index
        index.subquantizers =
            stride(from: min(index.subquantizers, dimension), to: 1, by: -1)
            .first { dimension.isMultiple(of: $0) } ?? 1
        return index
    }
}
