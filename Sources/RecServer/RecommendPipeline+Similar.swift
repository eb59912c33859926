import Artifacts
import RecCore
import Retrieval

extension RecommendPipeline {
    /// The items most like one, by their vectors.
    func similar(_ request: SimilarRequest) throws(Problem) -> SimilarItems {
        let catalog = snapshot.catalog
        guard let row = catalog.row(of: request.itemID) else { throw Problem(.unknownItem, "no such item") }
        let neighbors: [Neighbor]
        do throws(RetrievalError) {
            neighbors = try retriever.similar(
                to: row, k: request.count,
                filter: try request.filter.map { filter throws(RetrievalError) in try catalog.compile(filter)
                },
                excluded: request.exclude.compactMap { catalog.row(of: $0) },
                settings: settings.capped(RetrievalRequest(snapshot.manifest.retrieval, minimum: 0).settings))
        } catch {
            throw Problem(error)
        }
        let fields = request.fields.filter { catalog.hasAttribute($0) }
        let items = neighbors.map { neighbor in
            Recommendation.Item(
                itemID: catalog.id(neighbor.row), score: Double(neighbor.score),
                attributes: attributes(neighbor.row, fields), explanation: nil)
        }
        return SimilarItems(
            modelVersion: snapshot.manifest.modelVersion, itemID: request.itemID, items: items,
            isShort: items.count < request.count)
    }
}
