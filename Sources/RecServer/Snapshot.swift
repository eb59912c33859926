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
    /// Keys of request features that take one value, by where they come from.
    private let scalarKeys: [FeatureOrigin: Set<String>]

    var catalog: ItemCatalog { retrieval.catalog }

    /// What searches the item vectors: `ivfpq` or `flat`.
    var indexName: String { retrieval.items is FlatIndex ? "flat" : "ivfpq" }

    init(
        manifest: Manifest, digest: String, retrieval: RetrievalModel, users: UserDirectory?, tower: Tower?,
        ranking: RankingModel
    ) {
        self.manifest = manifest
        self.digest = digest
        self.retrieval = retrieval
        self.users = users
        self.tower = tower
        self.ranking = ranking
        var keys: [FeatureOrigin: Set<String>] = [:]
        for feature in manifest.features {
            switch feature.encoding {
            case .vocabulary(_, _, .none), .hash(_, _, .none), .bins, .squash:
                keys[feature.origin, default: []].insert(feature.key)
            default: break
            }
        }
        scalarKeys = keys
    }

    /// Whether a feature reads `key` as one value.
    func isScalar(_ key: String, from origin: FeatureOrigin) -> Bool {
        scalarKeys[origin]?.contains(key) ?? false
    }
}
