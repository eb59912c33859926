import Artifacts
import Ranking
import RecCore
import Retrieval
import Threading
import UserState

/// Computes users' histories into a version's cache before anybody waits for them.
struct HistoryWarmer {
    /// Most users warmed at a time.
    static let usersMaximum = 100_000

    let bundle: LoadedBundle
    /// What is kept of a user; nil when nothing is.
    let stored: (String) -> StoredUser?
    /// Told users done and users in all; false ends the work.
    let progress: (Int, Int) -> Bool

    /// One history as the version's own rows.
    private struct History {
        let user: String
        let events: [HistoryEvent]
        let offset: Int
    }

    /// Warms users by the histories that are kept of them, or came with the bundle.
    /// - Returns: how many were computed; users without such a history are left out.
    @discardableResult
    func warm(_ users: some Collection<String>) -> Int {
        compute(users.prefix(Self.usersMaximum)) { user in
            let stored = stored(user)
            return stored == nil ? ofBundle(user) : stored.flatMap(kept)
        }
    }

    /// Warms the users that `old`'s cache has used last, the latest first.
    /// - Returns: how many were computed.
    @discardableResult
    func warm(after old: LoadedBundle, users count: Int) -> Int {
        let recent = old.histories?.recentUsers(min(count, Self.usersMaximum)) ?? []
        return compute(recent) { translate($0, from: old.snapshot) }
    }

    /// The same history in this version: what is kept of the user, if that is what the cache had; the one
    /// stored here where the user's was stored there; else the same items and actions by their names.
    private func translate(_ recent: HistoryCache.RecentHistory, from old: Snapshot) -> History? {
        if let user = stored(recent.user) {
            guard user.hasConsent else { return nil }
            let known = StoredHistory(user, old)
            if isSame(recent, known.history, known.offset) { return kept(user) }
        } else if let users = old.users, let row = users.row(of: recent.user) {
            let known = users.history(row, limit: ResolvedRequest.storedHistoryMaximum)
            if isSame(recent, known.events, known.offset) { return ofBundle(recent.user) }
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

    /// Whether what the cache had ends as a known history does, up to what has come since.
    private func isSame(
        _ recent: HistoryCache.RecentHistory, _ events: [HistoryEvent], _ offset: Int
    ) -> Bool {
        let last = recent.offset + recent.events.count - offset - 1
        guard events.indices.contains(last) else { return false }
        return events[last].row == recent.events.last?.row
    }

    private func kept(_ user: StoredUser) -> History? {
        guard user.hasConsent else { return nil }
        let known = StoredHistory(user, bundle.snapshot)
        guard !known.history.isEmpty else { return nil }
        return History(user: user.id, events: known.history, offset: known.offset)
    }

    private func ofBundle(_ user: String) -> History? {
        guard let users = bundle.snapshot.users, let row = users.row(of: user) else { return nil }
        let kept = users.history(row, limit: ResolvedRequest.storedHistoryMaximum)
        return kept.events.isEmpty ? nil : History(user: user, events: kept.events, offset: kept.offset)
    }

    /// Takes one history at a time: all together they may be larger than the model.
    private func compute<Source>(_ sources: some Collection<Source>, _ history: (Source) -> History?) -> Int {
        guard let cache = bundle.histories, cache.limit > 0 else { return 0 }
        let ranker = Ranker(bundle.snapshot.ranking, cache: cache, capacity: 0)
        let now = Double(WallClock.nanoseconds) / 1e9
        var computed = 0
        // The latest last: what is used last is evicted last.
        for (index, source) in sources.reversed().enumerated() {
            if let history = history(source) {
                var query = Query(history: history.events, historyOffset: history.offset, now: now)
                query.userID = history.user
                ranker.begin(query)
                // At low priority: no request shall wait for this thread.
                _ = ranker.lookUp(isAhead: true)
                ranker.prefill()
                ranker.release()
                computed += 1
            }
            guard progress(index + 1, sources.count) else { return computed }
        }
        return computed
    }
}
