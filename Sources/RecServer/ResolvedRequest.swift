import Artifacts
import RecCore
import Retrieval

/// A request with its ids resolved against one snapshot: what the stages work on.
struct ResolvedRequest {
    /// Most events of a stored history that are looked at.
    static let storedHistoryMaximum = RecommendRequest.Limits.history

    var query: Query
    /// Events whose items the catalogue does not have.
    var unknownEvents = 0
    /// Rows that never appear, by the request's `exclude` and `exclude_seen`.
    var excluded: [Int] = []
    var filter: CompiledFilter?
    /// The request's own candidates; nil when retrieval finds them.
    var candidates: [Candidate]?
    var unknownCandidates: [String]?
    var queryItems: [Int] = []
    /// Items to return at most.
    var count: Int
    /// Attributes to return with each item.
    var fields: [String]

    /// Whether nothing is known that could make the answer personal.
    var isAnonymous: Bool {
        query.userRow == nil && query.history.isEmpty && queryItems.isEmpty && query.userFeatures.isEmpty
            && candidates == nil
    }

    /// Resolves `request`; `now` is the server's clock, for requests that do not say.
    init(_ request: RecommendRequest, _ snapshot: Snapshot, now: Double) throws(Problem) {
        let catalog = snapshot.catalog
        let actions = snapshot.manifest.sequence?.actions ?? []
        query = Query(now: request.now ?? now, contextFeatures: request.contextFeatures)
        count = request.count ?? request.candidates?.count ?? 20
        fields = request.fields.filter { catalog.hasAttribute($0) }
        resolveUser(request, snapshot, actions)
        let session = Self.events(request.session, catalog, actions)
        query.history += session.events
        unknownEvents += session.unknown
        excluded = request.exclude.compactMap { catalog.row(of: $0) }
        excluded += Self.seen(
            request.excludeSeen ?? (request.candidates == nil ? .all : .none), query, actions)
        if let filter = request.filter {
            do throws(RetrievalError) { self.filter = try catalog.compile(filter) } catch {
                throw Problem(error)
            }
        }
        queryItems = request.queryItems.compactMap { catalog.row(of: $0) }
        resolveCandidates(request, catalog)
    }

    private mutating func resolveUser(_ request: RecommendRequest, _ snapshot: Snapshot, _ actions: [String])
    {
        let users = snapshot.users
        query.userRow = request.userID.flatMap { users?.row(of: $0) }
        query.userFeatures = request.userFeatures
        if let users, let row = query.userRow {
            query.userFeatures.merge(users.features(row)) { own, _ in own }
        }
        if let history = request.history {
            let known = Self.events(history, snapshot.catalog, actions)
            query.history = known.events
            query.historyOffset = request.historyOffset
            unknownEvents = known.unknown
        } else if let users, let row = query.userRow {
            (query.history, query.historyOffset) = users.history(row, limit: Self.storedHistoryMaximum)
        }
    }

    private mutating func resolveCandidates(_ request: RecommendRequest, _ catalog: ItemCatalog) {
        guard let requested = request.candidates else { return }
        var known: [Candidate] = []
        var unknown: [String] = []
        var taken = Set(excluded)
        known.reserveCapacity(requested.count)
        for candidate in requested {
            guard let row = catalog.row(of: candidate.itemID) else {
                unknown.append(candidate.itemID)
                continue
            }
            // A repeated candidate is ranked once: the page shows an item once.
            guard taken.insert(row).inserted, filter?.matches(row) ?? true else { continue }
            known.append(Candidate(row: row, sources: .request, features: candidate.features))
        }
        candidates = known
        unknownCandidates = unknown
    }

    private static func events(
        _ events: [RecommendRequest.Event], _ catalog: ItemCatalog, _ actions: [String]
    ) -> (events: [HistoryEvent], unknown: Int) {
        var known: [HistoryEvent] = []
        known.reserveCapacity(events.count)
        for event in events {
            guard let row = catalog.row(of: event.itemID) else { continue }
            known.append(
                HistoryEvent(
                    row: row, action: event.action.flatMap { actions.firstIndex(of: $0) } ?? 0,
                    time: event.timestamp))
        }
        return (known, events.count - known.count)
    }

    /// Rows of the history that `rule` leaves out; an event without a time is within any time.
    private static func seen(_ rule: RecommendRequest.ExcludeSeen, _ query: Query, _ actions: [String])
        -> [Int]
    {
        switch rule {
        case .none: return []
        case .all: return query.history.map(\.row)
        case .matching(let names, let within):
            let wanted = names.map { names in Set(names.compactMap { actions.firstIndex(of: $0) }) }
            return query.history.filter { event in
                (wanted?.contains(event.action) ?? true)
                    && (within.map { limit in event.time.map { query.now - $0 <= limit } ?? true } ?? true)
            }.map(\.row)
        }
    }
}

extension Problem {
    /// A retrieval failure as the caller's problem, or as ours.
    init(_ error: RetrievalError) {
        switch error {
        case .unknownFilterField(let field), .notFilterable(let field):
            self.init(
                .unknownFilterField, "\(field) cannot be filtered",
                errors: [.init(pointer: "/filter", detail: error.description)])
        case .filterType:
            self.init(.wrongType, errors: [.init(pointer: "/filter", detail: error.description)])
        case .filterTooLarge:
            self.init(.outOfRange, errors: [.init(pointer: "/filter", detail: error.description)])
        default: self.init(.internalError, error.description)
        }
    }
}
