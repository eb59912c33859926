import Artifacts
import Threading

/// The slates that cursors continue: within a byte budget, for a while since they were used last.
///
/// All calls from any thread; the slates' own work is done outside the lock.
final class Slates: Sendable {
    /// Items of a slate, its first page among them.
    static let itemsMaximum = 500
    /// Slates held of one user; one more and the oldest goes.
    static let perUserMaximum = 16

    /// Why a slate is held no longer.
    enum Cause: String, CaseIterable, Sendable {
        case budget, expired, user, cleared
    }

    private struct Entry: Sendable {
        let slate: HeldSlate
        var byteCount: Int
        var usedAt: UInt64
    }

    private struct State: Sendable {
        var entries = RecencyMap<SlateCursor.SlateID, Entry>()
        /// Of each user, the oldest first.
        var slatesOf: [String: [SlateCursor.SlateID]] = [:]
        var byteCount = 0
        /// Versions that are to go.
        var retired: Set<ObjectIdentifier> = []
    }

    /// What happened to cursors and slates.
    struct Counters: Sendable {
        let pages = Counter()
        let expired = Counter()
        let dropped = Counter()
        let removed = Dictionary(uniqueKeysWithValues: Cause.allCases.map { ($0, Counter()) })
    }

    let byteLimit: Int
    let counters = Counters()
    private let ttlNanoseconds: UInt64
    private let seal = MessageCode()
    private let state = Lock(State())

    /// - Parameters:
    ///   - byteLimit: 0 holds nothing.
    ///   - ttlSeconds: since a slate was made or used.
    init(byteLimit: Int, ttlSeconds: Int) {
        self.byteLimit = byteLimit
        ttlNanoseconds = UInt64(clamping: ttlSeconds) &* 1_000_000_000
    }

    /// Slates held now.
    var count: Int { state.withLock { $0.entries.count } }
    /// Bytes they take.
    var byteCount: Int { state.withLock { $0.byteCount } }

    /// Holds a slate.
    /// - Parameters:
    ///   - snapshot: the version that made it.
    ///   - now: monotonic nanoseconds.
    /// - Returns: the cursor of its second page.
    func add(_ slate: HeldSlate, of snapshot: Snapshot, now: UInt64) -> String {
        let id = SlateCursor.SlateID.random()
        let isHeld = state.withLock { state in
            guard !state.retired.contains(ObjectIdentifier(snapshot)) else { return false }
            insert(slate, id, now, &state)
            return true
        }
        if !isHeld {
            slate.turn()
            state.withLock { insert(slate, id, now, &$0) }
        }
        return SlateCursor(slate: id, offset: slate.offset).text(seal)
    }

    /// A page of a slate that is held, and the cursor of the one after it.
    /// - Parameters:
    ///   - count: nil takes as many as the first page.
    ///   - user: whom the request names, which then must be whom the slate was made for.
    ///   - gone: items that the slate's user has had since.
    /// - Throws: `.cursorExpired`.
    func page(
        _ cursor: String, count: Int?, user: String?, now: UInt64, gone: (HeldSlate) -> Set<String>
    ) throws(Problem) -> (page: SlatePage, next: String?) {
        guard let cursor = SlateCursor(cursor, seal), let slate = use(cursor.slate, now),
            user == nil || user == slate.user,
            let page = slate.page(
                from: Int(cursor.offset), count: count ?? min(slate.facts.count, Self.itemsMaximum),
                gone: gone(slate))
        else {
            counters.expired.add()
            throw Problem(.cursorExpired, "ask for a new slate, without a cursor")
        }
        counters.pages.add()
        counters.dropped.add(page.dropped)
        return (page, page.next.map { SlateCursor(slate: cursor.slate, offset: $0).text(seal) })
    }

    /// Lets go of all slates of a user.
    func removeAll(user: String) {
        state.withLock { state in
            for id in state.slatesOf[user] ?? [] { remove(id, .cleared, &state) }
        }
    }

    /// Lets go of all slates.
    func removeAll() {
        state.withLock { state in
            for id in state.entries.entries.map(\.key) { remove(id, .cleared, &state) }
        }
    }

    // MARK: Versions that go

    /// Turns all slates of a version into text, those used last first, and from now on every new one; it is
    /// not kept alive by any slate then.
    func turn(from snapshot: Snapshot) {
        let held = state.withLock { state in
            state.retired.insert(ObjectIdentifier(snapshot))
            return state.entries.entries.filter { $0.value.slate.holds(snapshot) }
        }
        for (id, _) in held {
            // One that has been evicted meanwhile is not worth the work.
            guard let slate = state.withLock({ $0.entries[peek: id]?.slate }) else { continue }
            slate.turn()
            state.withLock { state in
                guard var entry = state.entries[peek: id] else { return }
                state.byteCount += slate.byteCount - entry.byteCount
                entry.byteCount = slate.byteCount
                state.entries.replace(id, entry)
                evict(&state)
            }
        }
    }

    /// Forgets a version that no request uses any more, before it is freed.
    func forget(_ snapshot: ObjectIdentifier) {
        _ = state.withLock { $0.retired.remove(snapshot) }
    }

    // MARK: Under the lock

    private func use(_ id: SlateCursor.SlateID, _ now: UInt64) -> HeldSlate? {
        state.withLock { state in
            guard var entry = state.entries.use(id) else { return nil }
            guard now < entry.usedAt &+ ttlNanoseconds else {
                remove(id, .expired, &state)
                return nil
            }
            entry.usedAt = max(entry.usedAt, now)
            state.entries.replace(id, entry)
            return entry.slate
        }
    }

    private func insert(_ slate: HeldSlate, _ id: SlateCursor.SlateID, _ now: UInt64, _ state: inout State) {
        while let last = state.entries.last, now >= last.value.usedAt &+ ttlNanoseconds {
            remove(last.key, .expired, &state)
        }
        if let user = slate.user {
            if let ids = state.slatesOf[user], ids.count >= Self.perUserMaximum {
                remove(ids[0], .user, &state)
            }
            state.slatesOf[user, default: []].append(id)
        }
        let byteCount = slate.byteCount
        state.entries.set(id, Entry(slate: slate, byteCount: byteCount, usedAt: now))
        state.byteCount += byteCount
        evict(&state)
    }

    private func evict(_ state: inout State) {
        while state.byteCount > byteLimit, let last = state.entries.last { remove(last.key, .budget, &state) }
    }

    private func remove(_ id: SlateCursor.SlateID, _ cause: Cause, _ state: inout State) {
        guard let entry = state.entries.remove(id) else { return }
        state.byteCount -= entry.byteCount
        counters.removed[cause]?.add()
        guard let user = entry.slate.user else { return }
        state.slatesOf[user]?.removeAll { $0 == id }
        if state.slatesOf[user]?.isEmpty ?? false { state.slatesOf[user] = nil }
    }
}
