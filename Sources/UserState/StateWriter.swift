internal import Threading

/// The thread that writes: takes all changes that wait, makes them durable in one commit, shows them to
/// readers, and then tells who waits.
final class StateWriter: Sendable {
    private struct Waiting: Sendable {
        let change: UserChange
        let completion: UserStates.Completion
        var outcome = ChangeOutcome()

        var eventCount: Int { if case .append(let events) = change { events.count } else { 1 } }
        /// Whether what it removes must be gone from the files before it is acknowledged.
        var isErasure: Bool {
            switch change {
            case .erase, .removeEvent: true
            case .append, .update: false
            }
        }
    }

    private let store: any UserStateStore
    private let cache: StateCache
    private let sharing: Sharing
    private let queue: BoundedQueue<Waiting>
    private let seed: UserStates.Seed
    private let report: UserStates.Report
    private let committed: Lock<Int64>
    private let counts = Lock(UserStateCounters())
    private let thread = Lock<NamedThread?>(nil)

    /// Events of one commit, more or less: a larger one delays those who wait for it too long.
    private static let commitEventsMaximum = 16_384
    /// Between the beginnings of two commits while several clients post one by one: each commit costs a sync.
    private static let pauseNanoseconds: UInt64 = 2_000_000
    /// How long other readers of the files may be in the way of an erasure before it counts as failed.
    private static let forgetNanoseconds: UInt64 = 10_000_000_000
    /// Between attempts, and between steps of ageing while there is more to drop.
    private static let shortNanoseconds: UInt64 = 50_000_000
    /// Between steps of ageing.
    private static let longNanoseconds: UInt64 = 1_000_000_000

    init(
        store: any UserStateStore, cache: StateCache, sharing: Sharing, queueDepth: Int,
        seed: @escaping UserStates.Seed, report: @escaping UserStates.Report
    ) throws(UserStateError) {
        self.store = store
        self.cache = cache
        self.sharing = sharing
        self.seed = seed
        self.report = report
        queue = BoundedQueue(capacity: max(queueDepth, 1))
        committed = Lock(store.commit)
        do {
            let thread = try NamedThread(name: "state") {
                ThreadPriority.useLongSlices()
                self.run()
            }
            self.thread.withLock { $0 = thread }
        } catch {
            throw .unavailable("\(error)")
        }
    }

    var commit: Int64 { committed.withLock { $0 } }

    /// Another process that shared the folder has committed up to `number`.
    func reach(_ number: Int64) {
        committed.withLock { $0 = max($0, number) }
        committed.wakeAll()
    }

    var counters: UserStateCounters {
        var counters = counts.withLock { $0 }
        counters.waiting = queue.count
        return counters
    }

    func submit(_ change: UserChange, _ completion: @escaping UserStates.Completion) -> Bool {
        queue.offer(Waiting(change: change, completion: completion))
    }

    /// Waits for a commit after number `before`; false when there is none by the monotonic `deadline`.
    func wait(until deadline: UInt64, after before: Int64) -> Bool {
        committed.wait(until: deadline) { $0 > before ? true : nil } ?? false
    }

    func stop() {
        queue.close()
        thread.withLock { $0 }?.join()
    }

    private func run() {
        // Erased and durable, but not yet gone from every file.
        var erased: [Waiting] = []
        var erasedSince: UInt64 = 0
        var ageingDue = MonotonicClock.nanoseconds
        var pacer = CommitPacer(interval: Self.pauseNanoseconds)
        while true {
            let now = MonotonicClock.nanoseconds
            if now >= ageingDue {
                let hasMore = sharing.isShared ? false : (try? store.age()) ?? false
                ageingDue = now + (hasMore ? Self.shortNanoseconds : Self.longNanoseconds)
            }
            let due = erased.isEmpty ? ageingDue : min(ageingDue, now + Self.shortNanoseconds)
            if let first = queue.take(until: due) {
                let done = write(batch(first, &pacer))
                if erased.isEmpty { erasedSince = MonotonicClock.nanoseconds }
                erased += done
            } else if queue.isClosed, queue.count == 0, erased.isEmpty {
                return
            }
            if !erased.isEmpty, let end = forget(since: erasedSince) {
                for waiting in erased { waiting.completion(end.map { waiting.outcome }) }
                erased = []
            }
        }
    }

    private func batch(_ first: Waiting, _ pacer: inout CommitPacer) -> [Waiting] {
        var batch = [first]
        var events = first.eventCount
        func takeAll() {
            while events < Self.commitEventsMaximum, let next = queue.takeIfAny() {
                events += next.eventCount
                batch.append(next)
            }
        }
        takeAll()
        if let due = pacer.due(changes: batch.count, events: events, now: MonotonicClock.nanoseconds) {
            // Only this thread commits: nothing wakes it before, as each change that comes would.
            _ = committed.wait(until: due) { _ in Bool?.none }
            takeAll()
        }
        pacer.begin(changes: batch.count, now: MonotonicClock.nanoseconds)
        return batch
    }

    /// Writes changes and tells who waits, but for those whose users are to be forgotten.
    /// - Returns: the latter.
    private func write(_ batch: [Waiting]) -> [Waiting] {
        let (cache, sharing, begun) = (cache, sharing, MonotonicClock.nanoseconds)
        let applied: AppliedChanges
        do {
            applied = try store.apply(
                batch.map(\.change), known: { sharing.isShared ? nil : cache.peek($0) },
                seed: seed)
        } catch {
            countFailure(error)
            for waiting in batch { waiting.completion(.failure(error)) }
            return []
        }
        if applied.isAfterUnknown { cache.removeAll() }
        for (id, user) in applied.users { cache.replace(id, user) }
        committed.withLock { $0 = max($0, applied.commit) }
        committed.wakeAll()
        count(batch, applied, seconds: Double(MonotonicClock.nanoseconds - begun) / 1e9)
        var erased: [Waiting] = []
        for (waiting, result) in zip(batch, applied.outcomes) {
            var waiting = waiting
            let result = result.map { outcome in
                var outcome = outcome
                outcome.commit = applied.commit
                return outcome
            }
            if waiting.isErasure, case .success(let outcome) = result {
                waiting.outcome = outcome
                erased.append(waiting)
            } else {
                waiting.completion(result)
            }
        }
        return erased
    }

    private func countFailure(_ error: UserStateError) {
        let isFirst = counts.withLock { counts in
            defer { counts.lastFailure = error.description }
            counts.failures += 1
            return counts.lastFailure == nil
        }
        if isFirst { report(error) }
    }

    private func count(_ batch: [Waiting], _ applied: AppliedChanges, seconds: Double) {
        let hasHealed = counts.withLock { counts in
            defer { counts.lastFailure = nil }
            counts.commits += 1
            counts.changes += batch.count
            counts.commitSeconds += seconds
            for (waiting, result) in zip(batch, applied.outcomes) {
                switch result {
                case .success(let outcome): counts.count(waiting.change, outcome)
                case .failure: counts.failures += 1
                }
            }
            return counts.lastFailure != nil
        }
        if hasHealed { report(nil) }
    }

    /// Leaves no byte of who is erased.
    /// - Returns: how it ended; nil to try again.
    private func forget(since: UInt64) -> Result<Void, UserStateError>? {
        do {
            if try store.forget() { return .success(()) }
        } catch {
            countFailure(error)
            return .failure(error)
        }
        guard MonotonicClock.nanoseconds - since > Self.forgetNanoseconds else { return nil }
        return .failure(.unavailable("others read the files from which users are being erased"))
    }
}
