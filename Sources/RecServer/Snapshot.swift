import Artifacts
import Features
import Kernels
import Ranking
import Retrieval

/// One verified bundle with everything made from it: what a request holds from its beginning to its end.
///
/// Frozen, shared by all threads; a thread's scratch is in its `RecommendPipeline`.
final class Snapshot: Sendable {
    /// The user tower with the encoder of its input.
    struct Tower: Sendable {
        let encoder: FeatureEncoder
        let network: UserTower
    }

    let manifest: Manifest
    /// SHA-256 of the manifest: the bundle's identity.
    let digest: String
    let retrieval: RetrievalModel
    let users: UserDirectory?
    let tower: Tower?
    let ranking: RankingModel
    /// By name.
    let placements: [String: Placement]
    /// What features can read.
    let schema: FeatureSchema

    var catalog: ItemCatalog { retrieval.catalog }

    /// What searches the item vectors: `ivfpq` or `flat`.
    var indexName: String { retrieval.items is FlatIndex ? "flat" : "ivfpq" }

    /// - Throws: for a placement that does not fit the catalogue.
    init(
        manifest: Manifest, digest: String, retrieval: RetrievalModel, users: UserDirectory?, tower: Tower?,
        ranking: RankingModel, schema: FeatureSchema
    ) throws(BundleError) {
        self.manifest = manifest
        self.digest = digest
        self.retrieval = retrieval
        self.users = users
        self.tower = tower
        self.ranking = ranking
        self.schema = schema
        var placements: [String: Placement] = [:]
        for configuration in manifest.placements {
            placements[configuration.name] = try Placement(configuration, retrieval.catalog)
        }
        self.placements = placements
    }
}
