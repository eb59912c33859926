import Kernels
import Ranking
import RecCore
import Retrieval

extension RecommendPipeline {
    /// The page, by the placement's rules.
    func order(_ slate: inout Slate, _ resolved: ResolvedRequest, _ viewer: Viewer?) {
        let placement = resolved.profile.placement
        if let placement { slate.boost(by: placement) }
        slate.order(
            resolved.count, diversity: resolved.profile.diversity, snapshot.ranking.itemVectors.view,
            pins: resolved.pins,
            caps: placement.flatMap { CapCounter($0, snapshot.catalog) },
            ignored: viewer.map { ignored(by: $0, resolved) } ?? [])
        if slate.ignoredCount > 0 { metrics.ignoredLeftOut.add(slate.ignoredCount) }
        guard let viewer, viewer.shown.shiftMaximum > 0 else { return }
        var places: [Int: Int] = [:]
        for (place, id) in viewer.lastPage(placement?.name).enumerated() {
            if let row = snapshot.catalog.row(of: id) { places[row] = place }
        }
        slate.keep(places, within: viewer.shown.shiftMaximum)
    }

    /// Rows that were shown often and with which the user has done nothing since; candidates of the request's
    /// own are what it asks for.
    private func ignored(by viewer: Viewer, _ resolved: ResolvedRequest) -> Set<Int> {
        guard resolved.candidates == nil else { return [] }
        var since: [Int: Double] = [:]
        for (id, first) in viewer.ignored {
            if let row = snapshot.catalog.row(of: id) { since[row] = first }
        }
        guard !since.isEmpty else { return [] }
        for event in resolved.events {
            // An event without a time may be a new one.
            if let first = since[event.row], event.time ?? first >= first { since[event.row] = nil }
        }
        return Set(since.keys)
    }
}
