public import Kernels
public import RecCore
internal import Synchronization
internal import Threading

/// The keys and values of users' histories, kept across requests under a byte budget.
///
/// One cache per bundle, with which it goes; its key is the user's id. What it answers is computed from
/// exactly the events asked about: histories are compared event by event. All calls from any thread; a lock
/// guards one of 64 shards at a time, and none is held while a question is compared or anything is computed.
public final class HistoryCache: Sendable {
    /// Histories kept of a user: the newest, and another one for a caller who alternates.
    public static let variantMaximum = 2
    static let shardCount = 64
    /// Share of the budget for users who came back; the rest is where new users prove themselves.
    static let protectedShare = 0.8

    /// Where the blocks come from; its limit is the budget.
    public let pool: KeyValuePool
    /// What happened, in this cache and others that share the counters.
    public let counters: HistoryCacheCounters
    private let dependence: RowDependence
    private let dimension: Int
    /// Whether a history is of use only with its newest row after the last layer.
    private let needsLastRow: Bool
    private let fingerprint: HistoryFingerprint
    private let shards = (0..<shardCount).map { _ in HistoryShard() }
    private let totals = HistoryTotals()
    private let limitBytes: Atomic<Int>

    /// An empty cache for a model's histories.
    ///
    /// - Parameters:
    ///   - layout: of the model's keys and values.
    ///   - limit: most bytes, of blocks and all that belongs to them; 0 keeps nothing.
    public convenience init(
        _ model: SequenceModel, layout: KeyValueLayout, limit: Int,
        counters: HistoryCacheCounters = HistoryCacheCounters()
    ) {
        self.init(
            model.rowDependence, dimension: model.dimension, needsLastRow: model.outputsRead == .newest,
            layout: layout, limit: limit, counters: counters)
    }

    init(
        _ dependence: RowDependence, dimension: Int, needsLastRow: Bool = true, layout: KeyValueLayout,
        limit: Int,
        counters: HistoryCacheCounters = HistoryCacheCounters(),
        fingerprint: HistoryFingerprint = .random()
    ) {
        self.dependence = dependence
        self.dimension = dimension
        self.needsLastRow = needsLastRow
        self.counters = counters
        self.fingerprint = fingerprint
        pool = KeyValuePool(layout, limit: limit)
        limitBytes = Atomic(max(0, limit))
    }

    // MARK: Asking

    /// What one request wants to know.
    struct Request {
        let user: String
        let shard: Int
        let window: HistoryWindow
        let base: Int
        let now: Double
        let digests: [HistoryFingerprint.Digest]
        var epoch = 0
    }

    /// Looks a history up and, unless it is a hit, promises that the caller computes it; waits for another
    /// request of the same user that does so already.
    ///
    /// - Parameters:
    ///   - user: nil for a request without one, which gets nothing and promises nothing.
    ///   - window: the history, with this request's session at its end.
    ///   - base: events of `window` without the session, which is never kept; nil when there is none.
    ///   - now: time of the question in Unix seconds.
    ///   - deadline: monotonic nanoseconds until which to wait; then the caller computes without a promise.
    ///   - isAhead: whether nobody has asked yet: the caller, which may be slow, neither promises nor waits,
    ///     and does not count.
    public func lease(
        user: String?, window: HistoryWindow, base: Int? = nil, now: Double, deadline: UInt64,
        isAhead: Bool = false
    ) -> HistoryLease {
        let base = min(max(0, base ?? window.count), window.count)
        guard let user, base > 0, limitBytes.load(ordering: .relaxed) > 0 else {
            if !isAhead { counters.count(.nothing(.none), events: window.count) }
            return HistoryLease(.none)
        }
        var request = Request(
            user: user, shard: Self.shard(of: user), window: window, base: base, now: now,
            digests: fingerprint.digests(window, size: KeyValueBlock.events))
        let shard = shards[request.shard]
        var variants = shard.withLock(totals) { state in
            request.epoch = state.epoch
            return state.table.use(user, at: MonotonicClock.nanoseconds)
        }
        demoteSurplus()
        var match = match(request, variants)
        var isMarked = false
        if match.outcome != .hit, !isAhead {
            isMarked = shard.mark(user, until: deadline, onWait: counters.countWait)
            // Somebody may have stored in between.
            variants = shard.withLock(totals) { state in
                request.epoch = state.epoch
                return state.table.variants(of: user)
            }
            match = self.match(request, variants)
            if match.outcome == .hit, isMarked {
                shard.unmark(user)
                isMarked = false
            }
        }
        if !isAhead { counters.count(match, events: window.count) }
        return HistoryLease(match, self, request, isMarked: isMarked)
    }

    private static func shard(of user: String) -> Int {
        // The upper bits: a dictionary uses the lower ones.
        Int(UInt(bitPattern: user.hashValue) >> (UInt.bitWidth - 6)) % shardCount
    }

    private func match(_ request: Request, _ variants: HistoryTable.Variants?) -> HistoryMatch {
        var best = HistoryMatch.nothing(.miss)
        for chain in [variants?.recent, variants?.other] {
            // Blocks whose hashes differ do differ; those whose hashes agree are compared.
            guard let chain, chain.commonEventsMaximum(request.digests) > best.reusedRows else { continue }
            let match = match(request, chain)
            if match.outcome == .hit { return match }
            if match.reusedRows > best.reusedRows { best = match }
        }
        return best
    }

    private func match(_ request: Request, _ chain: HistoryChain) -> HistoryMatch {
        let window = request.window
        let common = chain.commonEvents(window)
        var rows = dependence.equalRows(
            common: common, keptCount: chain.events.count,
            keptNext: common < chain.events.count ? chain.events[common].time : chain.next, window: window,
            now: request.now)
        // The newest row itself is an input of what follows.
        let isWhole = common == window.count && common == chain.events.count
        let lastRow = isWhole && rows == window.count ? chain.lastRow : nil
        let lacksLastRow = needsLastRow && lastRow == nil
        if rows == window.count, lacksLastRow { rows -= 1 }
        let isHit = common >= request.base && rows >= request.base - 1
        let outcome: HistoryOutcome = isHit ? .hit : rows > 0 ? .extended : .miss
        return HistoryMatch(
            outcome: outcome, reusedRows: rows, blocks: chain.blocks.prefix(HistoryChain.blocks(rows)),
            lastRow: lastRow, isWorthStoring: !isHit || needsLastRow && isWhole && chain.lastRow == nil)
    }

    // MARK: Storing

    /// Memory for a block that is to be stored; what has not been used for longest makes room. Nil when
    /// blocks in use fill the budget.
    public func takeBlock() -> KeyValueBlock? {
        while true {
            if let block = pool.take() { return block }
            guard evictOldest() else { return nil }
        }
    }

    func store(_ request: Request, blocks: [KeyValueBlock], lastRow: MatrixView?) {
        let window = request.window
        let events = KeyValueBlock.events
        let count = min(request.base, blocks.prefix { $0.pool === pool }.count * events)
        // Rows that depend on the number of events are of use together only.
        if case .eventCount = dependence, count < window.count { return }
        guard count > 0 else { return }
        let bytes = HistoryChain.byteCount(events: count, dimension: dimension, user: request.user)
        while !pool.reserve(bytes) { guard evictOldest() else { return } }
        let chain = HistoryChain(
            window, count: count, digests: Array(request.digests.prefix(count / events)),
            blocks: Array(blocks.prefix(HistoryChain.blocks(count))),
            lastRow: count < window.count
                ? nil : lastRow.map { Matrix(rows: 1, columns: $0.columns, values: $0.copy()) },
            next: count < window.count ? window.times[count] : request.now, pool: pool, reserved: bytes)
        let replaced = shards[request.shard].withLock(totals) { state -> [HistoryChain] in
            guard !state.isRetired, state.epoch == request.epoch else { return [] }
            return state.table.store(chain, for: request.user, at: MonotonicClock.nanoseconds)
        }
        counters.count(.replaced, replaced.count)
        demoteSurplus()
    }

    func unmark(_ request: Request) { shards[request.shard].unmark(request.user) }

    // MARK: Evicting

    /// Takes out the user whose last use is longest ago, one of those seen once if there is any; false when
    /// the cache is empty. Looks at 64 numbers and locks one shard.
    private func evictOldest() -> Bool {
        for segment in HistoryTable.Segment.allCases {
            while let shard = oldestShard(segment) {
                // Let go when the lock is free again: that returns the blocks.
                if let variants = shard.withLock(totals, { $0.table.removeOldest(segment) }) {
                    counters.count(.budget, variants.count)
                    return true
                }
            }
        }
        return false
    }

    private func oldestShard(_ segment: HistoryTable.Segment) -> HistoryShard? {
        var oldest: HistoryShard?
        var oldestUse = UInt64.max
        for shard in shards {
            let use = shard.oldestUse(segment)
            if use < oldestUse { (oldest, oldestUse) = (shard, use) }
        }
        return oldest
    }

    /// Keeps the protected users within their share of the budget.
    private func demoteSurplus() {
        while Double(totals.protectedBytes.load(ordering: .relaxed))
            > Self.protectedShare * Double(limitBytes.load(ordering: .relaxed)),
            let shard = oldestShard(.protected)
        {
            shard.withLock(totals) { $0.table.demoteOldest() }
        }
    }

    // MARK: Operating

    /// The budget: most bytes from now on. What was used least recently goes until the rest fits; requests
    /// that still use it return it when they end.
    public func setLimit(_ bytes: Int) {
        limitBytes.store(max(0, bytes), ordering: .relaxed)
        pool.setLimit(bytes)
        while pool.bytesInUse > bytes, evictOldest() {}
        demoteSurplus()
    }

    /// Removes everything of a user, also what is being computed now; false when there was nothing.
    @discardableResult
    public func remove(user: String) -> Bool {
        let removed = shards[Self.shard(of: user)].withLock(totals) { state in
            state.epoch += 1
            return state.table.remove(user)
        }
        counters.count(.user, removed?.count ?? 0)
        return removed != nil
    }

    /// Removes everything, also what is being computed now.
    public func removeAll() { clear(.cleared) }

    /// Removes everything for good: the bundle is about to go. Requests that still run are answered as before
    /// and nothing they compute is kept.
    public func retire() {
        clear(.retired)
        setLimit(0)
    }

    private func clear(_ cause: HistoryCacheCounters.EvictionCause) {
        for shard in shards {
            let removed = shard.withLock(totals) { state in
                state.epoch += 1
                if cause == .retired { state.isRetired = true }
                defer { state.table = HistoryTable() }
                return state.table
            }
            counters.count(cause, removed.chainCount)
        }
    }

    /// One user's newest history, as the model saw it.
    public struct RecentHistory: Sendable {
        /// The user's id.
        public let user: String
        /// Events before the first one: `Query.historyOffset`.
        public let offset: Int
        /// Oldest first.
        public let events: [HistoryEvent]
    }

    /// The most recently used users, the latest first, at most `limit`: what a next bundle may compute ahead.
    public func recentUsers(_ limit: Int) -> [RecentHistory] {
        var users = shards.flatMap { shard in shard.withLock(totals) { $0.table.newest(max(0, limit)) } }
        users.sort { $0.lastUse > $1.lastUse }
        return users.prefix(max(0, limit)).compactMap { user, _, variants in
            guard let chain = variants.recent else { return nil }
            return RecentHistory(
                user: user, offset: chain.start,
                events: chain.events.map {
                    HistoryEvent(row: Int($0.row), action: Int($0.action), time: $0.time)
                })
        }
    }

    /// The budget in bytes.
    public var limit: Int { limitBytes.load(ordering: .relaxed) }

    /// Bytes in use, also by requests that still use what was evicted.
    public var bytesInUse: Int { pool.bytesInUse }

    /// Users with a history in the cache.
    public var userCount: Int { totals.users.load(ordering: .relaxed) }
}
