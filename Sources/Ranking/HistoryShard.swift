internal import Synchronization
internal import Threading

/// One of the cache's independent parts, under one lock.
final class HistoryShard: Sendable {
    /// What the lock guards.
    struct State: Sendable {
        var table = HistoryTable()
        /// Users whose history some thread computes; at most one per thread.
        var inFlight: Set<String> = []
        /// Counts removals: what was being computed before one is not stored after it.
        var epoch = 0
        var isRetired = false
    }

    private let state = Lock(State())
    // Of the table, for choosing a shard without its lock.
    private let oldestProbation = Atomic<UInt64>(.max)
    private let oldestProtected = Atomic<UInt64>(.max)

    /// When the oldest user of a list was last used, as of late; `.max` for an empty list.
    func oldestUse(_ segment: HistoryTable.Segment) -> UInt64 {
        switch segment {
        case .probation: oldestProbation.load(ordering: .relaxed)
        case .protected: oldestProtected.load(ordering: .relaxed)
        }
    }

    /// Runs `body` under the lock and adds what it changed to the totals.
    func withLock<Result>(_ totals: HistoryTotals, _ body: (inout State) -> Result) -> Result {
        state.withLock { state in
            let users = state.table.count
            let protected = state.table.bytes(.protected)
            let result = body(&state)
            totals.add(
                users: state.table.count - users, protectedBytes: state.table.bytes(.protected) - protected)
            oldestProbation.store(state.table.oldestUse(.probation), ordering: .relaxed)
            oldestProtected.store(state.table.oldestUse(.protected), ordering: .relaxed)
            return result
        }
    }

    /// Waits until nobody else computes the user's history, and marks it as being computed by the caller;
    /// false when the deadline has passed.
    func mark(_ user: String, until deadline: UInt64, onWait: () -> Void) -> Bool {
        var isWaiting = false
        let isMarked: Bool? = state.wait(until: deadline) { state in
            if state.inFlight.insert(user).inserted { return true }
            if !isWaiting { onWait() }
            isWaiting = true
            return nil
        }
        return isMarked ?? false
    }

    /// Ends a mark and lets those who wait look again.
    func unmark(_ user: String) {
        state.withLock { _ = $0.inFlight.remove(user) }
        state.wakeAll()
    }
}

/// Totals over all shards.
final class HistoryTotals: Sendable {
    let users = Atomic<Int>(0)
    let protectedBytes = Atomic<Int>(0)

    /// Leaves alone what does not change: all threads read these.
    func add(users: Int, protectedBytes bytes: Int) {
        if users != 0 { self.users.add(users, ordering: .relaxed) }
        if bytes != 0 { protectedBytes.add(bytes, ordering: .relaxed) }
    }
}
