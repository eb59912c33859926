import Artifacts
import Ranking
import RecCore
import Retrieval
import Threading

/// Computes users' histories into a version's cache before anybody waits for them.
struct HistoryWarmer {
    /// Most users warmed at a time.
    static let usersMaximum = 100_000

    let bundle: LoadedBundle
    /// Told users done and users in all; false ends the work.
    let progress: (Int, Int) -> Bool

    /// One history as the version's own rows.
    private struct History {
        let user: String
        let events: [HistoryEvent]
        let offset: Int
    }

    /// Warms users by the histories that came with the bundle.
    /// - Returns: how many were computed; users without such a history are left out.
    @discardableResult
    func warm(_ users: some Collection<String>) -> Int {
        compute(users.prefix(Self.usersMaximum).compactMap(stored))
    }

    /// Warms the users that `old`'s cache has used last, the latest first.
    /// - Returns: how many were computed.
    @discardableResult
    func warm(after old: LoadedBundle, users count: Int) -> Int {
        let recent = old.histories?.recentUsers(min(count, Self.usersMaximum)) ?? []
        return compute(recent.compactMap { translate($0, from: old.snapshot) })
    }

    /// The same history in this version: the one stored here where the user's was stored there, else the same
    /// items and actions by their names.
    private func translate(_ recent: HistoryCache.RecentHistory, from old: Snapshot) -> History? {
        if let users = old.users, let row = users.row(of: recent.user) {
            let kept = users.history(row, limit: ResolvedRequest.storedHistoryMaximum)
            if kept.offset + kept.events.count == recent.offset + recent.events.count,
                kept.events.last?.row == recent.events.last?.row
            {
                return stored(recent.user)
            }
        }
        let actions = bundle.snapshot.manifest.sequence?.actions ?? []
        let oldActions = old.manifest.sequence?.actions ?? []
        let events = recent.events.compactMap { event -> HistoryEvent? in
            guard let row = bundle.snapshot.catalog.row(of: old.catalog.id(event.row)) else { return nil }
            let name = oldActions.indices.contains(event.action) ? oldActions[event.action] : nil
            let action = name.flatMap { actions.firstIndex(of: $0) } ?? 0
            return HistoryEvent(row: row, action: action, time: event.time)
        }
        return events.isEmpty ? nil : History(user: recent.user, events: events, offset: recent.offset)
    }

    private func stored(_ user: String) -> History? {
        guard let users = bundle.snapshot.users, let row = users.row(of: user) else { return nil }
        let kept = users.history(row, limit: ResolvedRequest.storedHistoryMaximum)
        return kept.events.isEmpty ? nil : History(user: user, events: kept.events, offset: kept.offset)
    }

    private func compute(_ histories: [History]) -> Int {
        guard let cache = bundle.histories, cache.limit > 0 else { return 0 }
        let ranker = Ranker(bundle.snapshot.ranking, cache: cache, capacity: 0)
        let now = Double(WallClock.nanoseconds) / 1e9
        // The latest last: what is used last is evicted last.
        for (index, history) in histories.reversed().enumerated() {
            var query = Query(history: history.events, historyOffset: history.offset, now: now)
            query.userID = history.user
            ranker.begin(query)
            _ = ranker.lookUp(until: MonotonicClock.nanoseconds &+ Self.patience)
            ranker.prefill()
            ranker.release()
            guard progress(index + 1, histories.count) else { return index + 1 }
        }
        return histories.count
    }

    /// Longest wait for a request that computes the same user's, in nanoseconds.
    private static let patience: UInt64 = 1_000_000_000
}
