import Ranking
import Threading

/// Divides the bytes for histories' keys and values among the versions in memory.
///
/// A version gets what its label has of the requests; one that is only kept for a rollback gets nothing. What
/// shrinks does so before anything grows, and what running requests still hold of a version that has left
/// counts until they are done: the sum stays within the budget.
final class HistoryBudget: Sendable {
    /// Most bytes of all versions together; 0 keeps no histories.
    let byteCount: Int
    /// What has happened in the caches of all versions.
    let counters = HistoryCacheCounters()
    // One division at a time.
    private let leaving = Lock<[HistoryCache]>([])

    /// Least part of a version that answers anything: below it a small canary would measure only misses.
    private static let shareMinimum = 1.0 / 16
    /// Part of a version that is about to be published, while its cache is filled.
    private static let shareOfNext = 0.25

    init(byteCount: Int) { self.byteCount = byteCount }

    /// The cache of a new version, empty and without a budget yet; nil without a sequence model.
    func cache(for snapshot: Snapshot) -> HistoryCache? {
        guard byteCount > 0 else { return nil }
        return snapshot.ranking.sequence.map {
            HistoryCache($0, layout: $0.layout, limit: 0, counters: counters)
        }
    }

    /// Sets every version's limit.
    /// - Parameters:
    ///   - assignments: the labels in use.
    ///   - versions: everything in memory.
    ///   - next: what is loaded and not published.
    func divide(
        _ assignments: [BundleLabel: BundleRegistry.Assignment], versions: [LoadedBundle],
        next: LoadedBundle? = nil
    ) {
        var shares = versions.map { version in
            let labels = assignments.filter { $0.value.bundle === version }
            let share = labels.reduce(0.0) { $0 + ($1.key == .default ? 1 : $1.value.share) }
            return (cache: version.histories, share: labels.isEmpty ? 0 : max(share, Self.shareMinimum))
        }
        if let next {
            let serving = shares.reduce(0) { $0 + $1.share }
            let share = serving == 0 ? 1 : serving * Self.shareOfNext / (1 - Self.shareOfNext)
            shares.append((next.histories, share))
        }
        let total = shares.reduce(0) { $0 + $1.share }
        leaving.withLock { leaving in
            leaving.removeAll { $0.bytesInUse == 0 }
            let held = leaving.reduce(0) { $0 + $1.bytesInUse }
            let rest = Double(max(0, byteCount - held))
            let limits = shares.compactMap { cache, share in
                cache.map { (cache: $0, limit: total > 0 ? Int(rest * share / total) : 0) }
            }
            for (cache, limit) in limits where limit < cache.limit { cache.setLimit(limit) }
            for (cache, limit) in limits where limit > cache.limit { cache.setLimit(limit) }
        }
    }

    /// Empties the cache of a version on which no request will begin any more.
    func retire(_ version: LoadedBundle) {
        guard let cache = version.histories else { return }
        leaving.withLock { leaving in
            cache.retire()
            leaving.append(cache)
        }
    }
}
