import Artifacts
import Features
import JSON
import RecCore
import Retrieval
import UserState

/// A request with its ids resolved against one snapshot: what the stages work on.
///
/// Whatever the models may refuse is refused here, so that the same request gets the same answer under any
/// load.
struct ResolvedRequest {
    /// Most events of a stored history that are looked at.
    static let storedHistoryMaximum = RecommendRequest.Limits.history

    var query: Query
    /// Placement, arm, weights and diversity.
    let profile: RequestProfile
    /// Events whose items the catalogue does not have.
    private(set) var unknownEvents = 0
    /// By which events items are left out.
    let seen: RecommendRequest.ExcludeSeen
    /// Rows that never appear, by the request's `exclude` and `exclude_seen`.
    private(set) var excluded: [Int] = []
    private(set) var filter: CompiledFilter?
    /// The request's own candidates; nil when retrieval finds them.
    private(set) var candidates: [Candidate]?
    private(set) var unknownCandidates: [String]?
    private(set) var excludedCandidates = 0
    private(set) var filteredCandidates = 0
    private(set) var queryItems: [Int] = []
    private(set) var unknownQueryItems: [String] = []
    /// Whether any of the user's features is one that the models read.
    private var hasFeatures = false
    /// Items to return at most.
    private(set) var count = 20
    /// Pinned items that this page may show.
    private(set) var pins: [Placement.Pin] = []
    /// Attributes to return with each item.
    private(set) var fields: [String]
    /// Known events with the caller's own action names, which the model need not know.
    private(set) var events: [StoredHistory.SeenEvent] = []

    /// The pinned items as candidates.
    var pinned: [Candidate] { pins.map { Candidate(row: $0.row, sources: .pinned) } }

    /// Whether nothing is known that could make the answer personal.
    var isAnonymous: Bool {
        query.userRow == nil && query.history.isEmpty && queryItems.isEmpty && !hasFeatures
            && candidates == nil
    }

    /// Resolves `request`; `now` is the server's clock, for requests that do not say.
    /// - Parameters:
    ///   - stored: what is kept of the request's user; nil when nothing is, and the bundle's word counts.
    ///   - isReplay: of a golden, which takes part in no experiment.
    init(
        _ request: RecommendRequest, _ snapshot: Snapshot, stored: StoredUser? = nil, now: Double,
        isReplay: Bool = false
    ) throws(Problem) {
        let catalog = snapshot.catalog
        let actions = snapshot.manifest.sequence?.actions ?? []
        profile = try RequestProfile(request, snapshot, isReplay: isReplay)
        seen = request.excludeSeen ?? (request.candidates == nil ? .all : .none)
        query = Query(now: request.now ?? now, contextFeatures: request.contextFeatures)
        fields = request.fields.filter { catalog.hasAttribute($0) }
        try Self.check(request, snapshot)
        resolveUser(request, snapshot, stored, actions)
        try Self.check(query.userFeatures, .user, "/user", snapshot)
        hasFeatures = query.userFeatures.keys.contains { snapshot.schema.reads($0, from: .user) }
        let withoutSession = query.history.count
        append(request.session, catalog, actions)
        query.sessionCount = query.history.count - withoutSession
        for id in request.queryItems {
            if let row = catalog.row(of: id) { queryItems.append(row) } else { unknownQueryItems.append(id) }
        }
        excluded = request.exclude.compactMap { catalog.row(of: $0) }
        exclude(seen)
        if let filter = request.filter {
            do throws(RetrievalError) { self.filter = try catalog.compile(filter) } catch {
                throw Problem(error)
            }
        }
        if let rule = profile.placement?.filter { filter = filter?.and(rule) ?? rule }
        resolveCandidates(request, catalog)
        count = request.count ?? candidates?.count ?? count
        resolvePins()
    }

    /// Candidates to find at least: where caps may refuse some, as many as are ranked anyway.
    func wanted(of candidates: Int) -> Int {
        profile.placement?.caps.isEmpty ?? true ? count : max(count, candidates)
    }

    /// A pinned item is shown unless it is beyond the page, excluded, filtered out, or not among the
    /// request's own candidates.
    private mutating func resolvePins() {
        guard let placement = profile.placement, !placement.pins.isEmpty else { return }
        let refused = Set(excluded)
        let own = candidates.map { Set($0.map(\.row)) }
        pins = placement.pins.filter { pin in
            pin.position < count && !refused.contains(pin.row) && filter?.matches(pin.row) ?? true
                && own?.contains(pin.row) ?? true
        }
    }

    /// Refuses tasks that nothing predicts, and values that a feature cannot encode.
    private static func check(_ request: RecommendRequest, _ snapshot: Snapshot) throws(Problem) {
        let tasks = Set((snapshot.manifest.ranker?.tasks ?? []).map(\.name))
        if let task = request.weights.keys.sorted().first(where: { !tasks.contains($0) }) {
            throw Problem(
                .unknownTask,
                errors: [
                    .init(
                        pointer: JSONObjectReader.pointer("/weights", task),
                        detail: "the model does not predict this")
                ])
        }
        try check(request.contextFeatures, .context, "/context", snapshot)
        for (index, candidate) in (request.candidates ?? []).enumerated() where !candidate.features.isEmpty {
            try check(candidate.features, .item, "/candidates/\(index)/features", snapshot)
        }
    }

    private static func check(
        _ features: FeatureValues, _ origin: FeatureOrigin, _ pointer: String, _ snapshot: Snapshot
    ) throws(Problem) {
        do throws(FeatureError) { try snapshot.schema.check(features, from: origin) } catch {
            throw Problem(error, at: pointer)
        }
    }

    /// Who asks: the request's own word counts before what is kept, and that before the bundle's.
    ///
    /// Of a user who does not consent nothing is used but the request itself, and nothing is kept; of one who
    /// was erased, nothing that the bundle says.
    private mutating func resolveUser(
        _ request: RecommendRequest, _ snapshot: Snapshot, _ stored: StoredUser?, _ actions: [String]
    ) {
        query.userFeatures = request.userFeatures
        let isUsable = stored?.hasConsent ?? true
        if isUsable {
            query.userID = request.userID
            if let stored { addFeatures(stored.features, snapshot) }
            if !(stored?.isErased ?? false) {
                query.userRow = request.userID.flatMap { snapshot.users?.row(of: $0) }
            }
        }
        if let users = snapshot.users, let row = query.userRow {
            query.userFeatures.merge(users.features(row)) { own, _ in own }
        }
        if let history = request.history {
            query.historyOffset = request.historyOffset
            append(history, snapshot.catalog, actions)
        } else if let stored {
            if isUsable { take(StoredHistory(stored, snapshot)) }
        } else if let users = snapshot.users, let row = query.userRow {
            (query.history, query.historyOffset) = users.history(row, limit: Self.storedHistoryMaximum)
            events = query.history.map { event in
                (event.row, event.action < actions.count ? actions[event.action] : nil, event.time)
            }
        }
    }

    private mutating func take(_ stored: StoredHistory) {
        query.history = stored.history
        query.historyOffset = stored.offset
        events = stored.seen
        unknownEvents += stored.unknown
    }

    /// Adds kept features to the request's; one that this version cannot encode is not the caller's mistake.
    private mutating func addFeatures(_ features: FeatureValues, _ snapshot: Snapshot) {
        for (name, value) in features where query.userFeatures[name] == nil {
            do throws(FeatureError) {
                try snapshot.schema.check([name: value], from: .user)
                query.userFeatures[name] = value
            } catch {
                continue
            }
        }
    }

    private mutating func append(
        _ list: [RecommendRequest.Event], _ catalog: ItemCatalog, _ actions: [String]
    ) {
        for event in list {
            guard let row = catalog.row(of: event.itemID) else {
                unknownEvents += 1
                continue
            }
            let action = event.action.flatMap { actions.firstIndex(of: $0) } ?? 0
            query.history.append(HistoryEvent(row: row, action: action, time: event.timestamp))
            events.append((row, event.action, event.timestamp))
        }
    }

    /// Leaves out items of the history; an event without a time is within any time. A basket is not offered
    /// to itself.
    private mutating func exclude(_ rule: RecommendRequest.ExcludeSeen) {
        switch rule {
        case .none: return
        case .all: excluded += events.map(\.row) + queryItems
        case .matching(let names, let within):
            let wanted = names.map(Set.init)
            excluded += queryItems
            for event in events {
                let isWanted = wanted.map { $0.contains(event.action ?? "unknown") } ?? true
                let isWithin =
                    within.map { limit in event.time.map { query.now - $0 <= limit } ?? true } ?? true
                if isWanted, isWithin { excluded.append(event.row) }
            }
        }
    }

    private mutating func resolveCandidates(_ request: RecommendRequest, _ catalog: ItemCatalog) {
        guard let requested = request.candidates else { return }
        var known: [Candidate] = []
        var unknown: [String] = []
        let refused = Set(excluded)
        var taken: Set<Int> = []
        known.reserveCapacity(requested.count)
        for candidate in requested {
            guard let row = catalog.row(of: candidate.itemID) else {
                unknown.append(candidate.itemID)
                continue
            }
            // A repeated candidate is ranked once: the page shows an item once.
            guard taken.insert(row).inserted else { continue }
            if refused.contains(row) {
                excludedCandidates += 1
            } else if !(filter?.matches(row) ?? true) {
                filteredCandidates += 1
            } else {
                known.append(Candidate(row: row, sources: .request, features: candidate.features))
            }
        }
        candidates = known
        unknownCandidates = unknown
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
        // Weights and histories are finite: only the request's own features can make a query that is not.
        case .notFinite:
            self.init(
                .outOfRange, errors: [.init(pointer: "/user", detail: "the features make no finite vector")])
        case .dimensionMismatch, .invalidIndex, .faiss: self.init(.internalError, error.description)
        }
    }
}
