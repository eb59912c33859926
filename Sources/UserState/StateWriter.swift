internal import Threading

/// The thread that writes: takes all changes that wait, makes them durable in one commit, shows them to
/// readers, and then tells who waits.
final class StateWriter: Sendable {
    private struct Waiting: Sendable {
        let change: UserChange
        let completion: UserStates.Completion
    }

    private let store: any UserStateStore
    private let cache: StateCache
    private let queue: BoundedQueue<Waiting>
    private let seed: UserStates.Seed
    private let committed: Lock<Int64>
    private let thread = Lock<NamedThread?>(nil)

    /// Events of one commit, more or less: a larger one delays those who wait for it too long.
    private static let commitEventsMaximum = 16_384
    /// How often others may be in the way of forgetting before it counts as failed.
    private static let forgetAttempts = 3

    init(
        store: any UserStateStore, cache: StateCache, queueDepth: Int, seed: @escaping UserStates.Seed
    ) throws(UserStateError) {
        self.store = store
        self.cache = cache
        self.seed = seed
        queue = BoundedQueue(capacity: max(queueDepth, 1))
        committed = Lock(store.commit)
        do {
            let thread = try NamedThread(name: "state") { self.run() }
            self.thread.withLock { $0 = thread }
        } catch {
            throw .unavailable("\(error)")
        }
    }

    var commit: Int64 { committed.withLock { $0 } }

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
        while let first = queue.take() {
            var batch = [first]
            var events = Self.eventCount(first.change)
            while events < Self.commitEventsMaximum, let next = queue.takeIfAny() {
                events += Self.eventCount(next.change)
                batch.append(next)
            }
            write(batch)
        }
    }

    private static func eventCount(_ change: UserChange) -> Int {
        if case .append(let events) = change { events.count } else { 1 }
    }

    private func write(_ batch: [Waiting]) {
        let cache = cache
        do {
            let applied = try store.apply(batch.map(\.change), known: { cache.peek($0) }, seed: seed)
            for (id, user) in applied.users { cache.replace(id, user) }
            committed.withLock { $0 = applied.commit }
            committed.wakeAll()
            let forgotten = forget(batch)
            for (waiting, outcome) in zip(batch, applied.outcomes) {
                if case .erase = waiting.change, let forgotten {
                    waiting.completion(.failure(forgotten))
                } else {
                    waiting.completion(
                        outcome.map {
                            var outcome = $0
                            outcome.commit = applied.commit
                            return outcome
                        })
                }
            }
        } catch {
            for waiting in batch { waiting.completion(.failure(error)) }
        }
    }

    /// Leaves no byte of who is erased.
    /// - Returns: why that is not so.
    private func forget(_ batch: [Waiting]) -> UserStateError? {
        guard batch.contains(where: { if case .erase = $0.change { true } else { false } }) else {
            return nil
        }
        for _ in 0..<Self.forgetAttempts {
            do {
                if try store.forget() { return nil }
            } catch {
                return error
            }
        }
        return .unavailable("another process reads the files")
    }
}
