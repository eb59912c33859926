public import Kernels

/// How much of a history was known.
public enum HistoryOutcome: String, Sendable, CaseIterable {
    /// All of it; at most its newest row is computed again.
    case hit
    /// Its beginning.
    case extended
    /// Nothing that serves.
    case miss
    /// Nothing was asked: no user, no events, or no cache.
    case none
}

/// What the cache has of a history.
public struct HistoryMatch: Sendable {
    /// How much of the history was known.
    public let outcome: HistoryOutcome
    /// Rows at the beginning of the window that need not be computed.
    public let reusedRows: Int
    /// The keys and values of those rows, sixteen each; what the last block holds beyond them is of no use.
    public let blocks: ArraySlice<KeyValueBlock>
    /// The newest row after the last layer, [1, D], when all rows are reused; else nil.
    public let lastRow: Matrix?
    /// Whether the cache gains by what is computed now.
    public let isWorthStoring: Bool

    static func nothing(_ outcome: HistoryOutcome) -> HistoryMatch {
        HistoryMatch(
            outcome: outcome, reusedRows: 0, blocks: [], lastRow: nil, isWorthStoring: outcome == .miss)
    }
}

/// One request's dealings with the cache: what is known of its user's history, and the promise to compute the
/// rest, for which other requests of the user wait.
///
/// The promise ends with `store` or with the lease. A thread holds one lease at a time: else two threads
/// could wait for each other, until their deadlines.
public struct HistoryLease: ~Copyable {
    /// What the cache has.
    public let match: HistoryMatch
    private let cache: HistoryCache?
    private let request: HistoryCache.Request?
    private var isMarked: Bool

    /// A lease on nothing.
    init(_ outcome: HistoryOutcome) {
        match = .nothing(outcome)
        cache = nil
        request = nil
        isMarked = false
    }

    init(_ match: HistoryMatch, _ cache: HistoryCache, _ request: HistoryCache.Request, isMarked: Bool) {
        self.match = match
        self.cache = cache
        self.request = request
        self.isMarked = isMarked
    }

    /// Publishes what was computed and ends the promise; nothing happens unless `match.isWorthStoring`.
    ///
    /// - Parameters:
    ///   - blocks: the keys and values of the window's events, sixteen each; from here on frozen. What
    ///     follows the first block that is not from the cache's pool is left out.
    ///   - lastRow: the window's newest row after the last layer, [1, D].
    public mutating func store(blocks: [KeyValueBlock], lastRow: MatrixView?) {
        guard let cache, let request, match.isWorthStoring else { return }
        cache.store(request, blocks: blocks, lastRow: lastRow)
        end()
    }

    private mutating func end() {
        guard isMarked, let cache, let request else { return }
        isMarked = false
        cache.unmark(request)
    }

    deinit {
        guard isMarked, let cache, let request else { return }
        cache.unmark(request)
    }
}
