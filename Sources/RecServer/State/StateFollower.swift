import Logging
import Ranking
import RecCore
import Threading
import UserState

/// What follows from durable changes of user state, on one thread that gives way to all others: popularity is
/// counted and refreshed, and new events of users who were here lately are encoded before they ask again.
///
/// Nothing waits for it; what there is no time for is dropped and counted, and left to the next request.
final class StateFollower: Sendable {
    /// Most changes, and events in them, that wait to be counted.
    static let changesMaximum = 16_384
    static let eventsMaximum = 262_144
    /// Most users whose events wait to be encoded.
    static let usersMaximum = 4096
    /// Nanoseconds for which further events of a user are awaited.
    static let coalescing: UInt64 = 100_000_000
    /// Nanoseconds between refreshes of what is popular.
    static let refreshInterval: UInt64 = 2_000_000_000
    /// A refresh takes at most this share of the time.
    private static let refreshShare: UInt64 = 50
    /// Users encoded before the thread looks for other work.
    private static let usersAtATime = 16

    /// Events to be counted, or no longer.
    private struct Count: Sendable {
        var events: [(user: String, event: StoredEvent)]
        /// The users' sequences after each of `events`; empty where they do not matter.
        var sequences: [Int64] = []
        /// The user's features; nil to look them up.
        var features: FeatureValues?
        var isRemoval = false
    }

    private struct State: Sendable {
        var counts: [Count] = []
        var eventCount = 0
        var pending: [(user: String, due: UInt64)] = []
        var pendingUsers: Set<String> = []
        var isStopping = false
    }

    /// What the thread finds to do.
    private enum Work { case count([Count]), look, stop }

    private let state = Lock(State())
    private let seen: Lock<RecentUsers>
    private let service: RecommendService
    private let isBusy: @Sendable () -> Bool
    private let thread = Lock<NamedThread?>(nil)

    /// - Parameter isBusy: whether requests wait for a compute thread.
    init(_ service: RecommendService, isBusy: @escaping @Sendable () -> Bool) throws(ThreadingError) {
        self.service = service
        self.isBusy = isBusy
        seen = Lock(RecentUsers(lifetime: service.settings.eagerNanoseconds))
        let thread = try NamedThread(name: "follow") { [self] in
            ThreadPriority.lower()
            run()
        }
        self.thread.withLock { $0 = thread }
    }

    /// Drops what waits and ends the thread.
    func stop() {
        state.withLock { $0.isStopping = true }
        state.wakeAll()
        thread.withLock { $0 }?.join()
    }

    // MARK: - From other threads

    /// Notes that a user has asked.
    func noteSeen(_ user: String) {
        guard service.settings.eagerNanoseconds > 0 else { return }
        seen.withLock { $0.note(user, at: MonotonicClock.nanoseconds) }
    }

    /// What is held of a user of whom a change may take something away.
    func userBefore(_ change: UserChange) -> StoredUser? {
        guard service.popularity != nil else { return nil }
        switch change {
        case .append, .update(_, _, nil): return nil
        case .erase(let user), .removeEvent(let user, _), .update(let user, _, _):
            return service.storedUser(user)
        }
    }

    /// Takes a change that is durable now; never waits.
    /// - Parameter before: what `userBefore` said.
    func follow(_ change: UserChange, _ outcome: ChangeOutcome, before: StoredUser?) {
        switch change {
        case .append(let events):
            var stored = Count(events: [])
            for (event, outcome) in zip(events, outcome.events) {
                guard case .stored(let sequence) = outcome else { continue }
                stored.events.append(event)
                stored.sequences.append(sequence)
            }
            count(stored)
            encode(Set(stored.events.map(\.user)))
        case .removeEvent(let user, let eventID):
            guard outcome.isFound, let before else { return }
            count(
                Count(
                    events: before.events.filter { $0.eventID == eventID }.map { (user, $0) }, isRemoval: true
                ))
        case .erase(let user):
            seen.withLock { $0.remove(user) }
            guard let before, before.hasConsent else { return }
            count(of: before, isRemoval: true)
        case .update(_, _, let hasConsent):
            guard let hasConsent, let before, before.hasConsent != hasConsent, outcome.user != nil else {
                return
            }
            count(of: before, isRemoval: !hasConsent)
        }
    }

    /// Counts all that is kept of a user, or no longer.
    private func count(of user: StoredUser, isRemoval: Bool) {
        count(
            Count(
                events: user.events.map { (user.id, $0) }, features: service.features(of: user.id, user),
                isRemoval: isRemoval))
    }

    private func count(_ count: Count) {
        guard service.popularity != nil, !count.events.isEmpty else { return }
        let isTaken = state.withLock { state in
            guard state.counts.count < Self.changesMaximum,
                state.eventCount + count.events.count <= Self.eventsMaximum
            else { return false }
            state.counts.append(count)
            state.eventCount += count.events.count
            return true
        }
        if isTaken { state.wakeAll() } else { service.metrics.changesDropped.add() }
    }

    private func encode(_ users: Set<String>) {
        let now = MonotonicClock.nanoseconds
        guard service.settings.eagerNanoseconds > 0 else { return }
        let recent = seen.withLock { seen in users.filter { seen.contains($0, at: now) } }
        guard !recent.isEmpty else { return }
        let dropped = state.withLock { state in
            var dropped = 0
            for user in recent where !state.pendingUsers.contains(user) {
                guard state.pending.count < Self.usersMaximum else {
                    dropped += 1
                    continue
                }
                state.pendingUsers.insert(user)
                state.pending.append((user, now &+ Self.coalescing))
            }
            return dropped
        }
        state.wakeAll()
        service.metrics.eagerDropped.add(dropped)
    }

    // MARK: - On the thread

    private func run() {
        var kept = countKept()
        var (isChanged, refreshed, refreshDue) = (true, UInt64(0), MonotonicClock.nanoseconds)
        while true {
            let pendingDue = state.withLock { $0.pending.first?.due } ?? .max
            switch nextWork(until: min(refreshDue, pendingDue)) {
            case .stop: return
            case .count(let counts):
                for count in counts { perform(count, kept) }
                // Changes that come now were made after all was read.
                kept = Kept(commit: kept.commit)
                isChanged = true
                service.metrics.changesFollowed.add(counts.count)
            case .look: break
            }
            if case let now = MonotonicClock.nanoseconds, now >= refreshDue {
                refreshDue = now &+ Self.refreshInterval
                if isChanged || now &- refreshed >= agesAfter {
                    (isChanged, refreshed) = (false, now)
                    refreshDue = refresh()
                }
            }
            encodePending()
        }
    }

    private func nextWork(until deadline: UInt64) -> Work {
        let work: Work? = state.wait(until: deadline) { state in
            if state.isStopping { return .stop }
            if !state.counts.isEmpty {
                defer { (state.counts, state.eventCount) = ([], 0) }
                return .count(state.counts)
            }
            return state.pending.first.map { $0.due < deadline } ?? false ? .look : nil
        }
        return work ?? .look
    }

    /// What popularity knows by having read all that is kept.
    private struct Kept {
        /// All changes up to this commit.
        var commit: Int64 = 0
        /// Later ones of these users, up to their sequences.
        var sequences: [String: Int64] = [:]

        func has(_ sequence: Int64, of user: String) -> Bool {
            sequence <= commit || sequence <= sequences[user] ?? 0
        }
    }

    /// Counts all events that are kept: once, at the beginning.
    private func countKept() -> Kept {
        guard let popularity = service.popularity, let users = service.users else { return Kept() }
        if service.settings.popularityBy != nil { waitForBundle() }
        var kept = Kept(commit: users.commit)
        var events = 0
        do throws(UserStateError) {
            try users.forEachUser { user in
                if user.sequence > kept.commit { kept.sequences[user.id] = user.sequence }
                if user.hasConsent {
                    popularity.count(user.events, features: service.features(of: user.id, user))
                    events += user.events.count
                }
                return !state.withLock { $0.isStopping }
            }
        } catch {
            service.logger.error("kept events do not count", metadata: ["reason": "\(error)"])
        }
        if events > 0 { service.logger.info("kept events count", metadata: ["events": "\(events)"]) }
        return kept
    }

    /// Users' features are the bundle's, too.
    private func waitForBundle() {
        while !service.registry.isReady {
            let soon = MonotonicClock.nanoseconds &+ Self.coalescing
            if state.wait(until: soon, for: { $0.isStopping ? true : nil }) ?? false { return }
        }
    }

    private func perform(_ count: Count, _ kept: Kept) {
        guard let popularity = service.popularity else { return }
        if let features = count.features {
            popularity.count(count.events.map(\.event), features: features, isRemoval: count.isRemoval)
            return
        }
        for (index, (user, event)) in count.events.enumerated() {
            if count.sequences.indices.contains(index), kept.has(count.sequences[index], of: user) {
                continue
            }
            let features = service.settings.popularityBy == nil ? [:] : service.features(of: user)
            popularity.count(CollectionOfOne(event), features: features, isRemoval: count.isRemoval)
        }
    }

    /// Nanoseconds in which counts lose a percent or less.
    private var agesAfter: UInt64 {
        UInt64(max(0.01 * (service.settings.popularityHalfLife ?? 0), 1) * 1e9)
    }

    /// Gives every version what is popular now.
    /// - Returns: when to do so again at the earliest.
    private func refresh() -> UInt64 {
        let start = MonotonicClock.nanoseconds
        for bundle in service.registry.versions { service.popularity?.publish(to: bundle) }
        let end = MonotonicClock.nanoseconds
        return end &+ max(Self.refreshInterval, (end &- start) &* Self.refreshShare)
    }

    private func encodePending() {
        let now = MonotonicClock.nanoseconds
        let users = state.withLock { state in
            let due = state.pending.prefix(Self.usersAtATime).prefix { $0.due <= now }.map(\.user)
            state.pending.removeFirst(due.count)
            state.pendingUsers.subtract(due)
            return due
        }
        var encoded = 0
        for user in users where !isBusy() {
            guard let bundle = bundle(of: user), bundle.histories != nil else { continue }
            let erasures = service.erasures.value
            encoded += HistoryWarmer(bundle: bundle, stored: service.storedUser) { _, _ in true }.warm([user])
            if service.erasures.value != erasures { bundle.histories?.remove(user: user) }
        }
        service.metrics.eagerEncoded.add(encoded)
        service.metrics.eagerDropped.add(users.count - encoded)
    }

    private func bundle(of user: String) -> LoadedBundle? {
        do throws(Problem) {
            return try service.registry.choose(model: nil, userID: user, requestID: user).bundle
        } catch {
            return nil
        }
    }
}
