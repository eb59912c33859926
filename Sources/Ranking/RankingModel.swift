public import Artifacts
public import Features
public import Kernels

/// Everything that ranking takes from a bundle: frozen, shared by all threads; a `Ranker` is a thread's
/// scratch.
public struct RankingModel: Sendable {
    /// DCN-V2 with its inputs and what is made of its logits.
    public struct Network: Sendable {
        /// Input rows.
        public let encoder: FeatureEncoder
        /// The layers.
        public let network: DCNV2
        /// Tasks in the order of the logits.
        public let tasks: [TaskDefinition]
        /// What orders the candidates.
        public let value: ValueModel
    }

    /// The history model, if the bundle has one.
    public let sequence: SequenceModel?
    /// The ranker, if the bundle has one.
    public let network: Network?
    /// `item.vector`, [I, d].
    public let itemVectors: Matrix
    /// `item.popularity`, [1, I].
    public let popularity: Matrix

    /// Reads the sequence model and the ranker, and looks up the catalogue's attributes.
    ///
    /// - Parameters:
    ///   - tensors, tables: the bundle's; `tables` also serves `item.vector` and `item.popularity`.
    ///   - attributes: values of the manifest's item attributes.
    /// - Throws: naming the first tensor or manifest field that does not fit.
    public init(
        _ manifest: Manifest, tensors: BundleTensors, tables: SharedTables, schema: FeatureSchema,
        attributes: some ItemAttributes
    ) throws(BundleError) {
        let items = manifest.items.count
        itemVectors = try tables.matrix("item.vector", rows: items, columns: manifest.retrieval.dimension)
        popularity = try tables.vector("item.popularity", count: items)
        sequence = try manifest.sequence.map { configuration throws(BundleError) in
            try SequenceModel(configuration, itemCount: items, tensors: tensors, tables: tables)
        }
        network = try manifest.ranker.map { ranker throws(BundleError) in
            guard let value = manifest.value else {
                throw BundleError(
                    file: "manifest.json", tensor: "/value", expected: "a value model", found: "none")
            }
            let encoder = try schema.encoder(inputs: ranker.inputs, for: .ranker, attributes: attributes)
            let network = try DCNV2(
                ranker, width: encoder.width, candidateColumns: encoder.candidateRanges, tensors: tensors)
            return Network(
                encoder: encoder, network: network,
                tasks: ranker.tasks, value: try ValueModel(value, tasks: ranker.tasks.map(\.name)))
        }
    }
}
