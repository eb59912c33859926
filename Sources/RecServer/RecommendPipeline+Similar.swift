import Artifacts
import Kernels
import Ranking
import RecCore
import Retrieval

extension RecommendPipeline {
    /// The items most like one, by their vectors, on a page with the placement's rules.
    func similar(_ request: SimilarRequest) throws(Problem) -> SimilarItems {
        let catalog = snapshot.catalog
        guard let row = catalog.row(of: request.itemID) else { throw Problem(.unknownItem, "no such item") }
        let placement = try request.placement.map { name throws(Problem) in try snapshot.placement(name) }
        var slate: Slate
        do throws(RetrievalError) {
            slate = try neighbors(of: row, request, placement)
        } catch {
            throw Problem(error)
        }
        if let placement { slate.boost(by: placement) }
        slate.order(
            request.count, diversity: placement?.diversity ?? 0, snapshot.ranking.itemVectors.view,
            pins: placement?.pins ?? [], caps: placement.flatMap { CapCounter($0, catalog) })
        let fields = request.fields.filter { catalog.hasAttribute($0) }
        let items = slate.page.map { index in
            Recommendation.Item(
                itemID: catalog.id(slate.candidates[index].row), score: slate.scores[index] ?? 0,
                attributes: attributes(slate.candidates[index].row, fields), explanation: nil)
        }
        return SimilarItems(
            modelVersion: snapshot.manifest.modelVersion, placement: placement?.name,
            itemID: request.itemID, items: items, isShort: slate.availableCount < request.count)
    }

    /// The nearest items and those that are pinned to the page.
    private func neighbors(
        of row: Int, _ request: SimilarRequest, _ placement: Placement?
    ) throws(RetrievalError) -> Slate {
        let catalog = snapshot.catalog
        let own = try request.filter.map { filter throws(RetrievalError) in try catalog.compile(filter) }
        let filter = placement?.filter.map { own?.and($0) ?? $0 } ?? own
        let excluded = request.exclude.compactMap { catalog.row(of: $0) }
        // What moves items within the page, or off it, needs more of them than the page shows.
        let pool = min(snapshot.manifest.retrieval.candidates, settings.candidatesMax)
        let neighbors = try retriever.similar(
            to: row, k: placement?.reorders ?? false ? max(request.count, pool) : request.count,
            filter: filter, excluded: excluded,
            settings: settings.capped(RetrievalRequest(snapshot.manifest.retrieval, minimum: 0).settings))
        var slate = Slate()
        slate.candidates = neighbors.map { Candidate(row: $0.row, sources: [], retrievalScore: $0.score) }
        let refused = Set(excluded + [row])
        let pinned = (placement?.pins ?? []).filter { pin in
            pin.position < request.count && !refused.contains(pin.row) && filter?.matches(pin.row) ?? true
        }.map(\.row)
        let scores = try retriever.similarities(of: pinned, to: row)
        slate.add(
            pinned: zip(pinned, scores).map { Candidate(row: $0, sources: .pinned, retrievalScore: $1) })
        slate.use(
            slate.candidates.map { $0.retrievalScore.isFinite ? Double($0.retrievalScore) : nil },
            as: .similarity)
        return slate
    }
}
