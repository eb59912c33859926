internal import Synchronization

/// What history caches have done since the process began; shared by the caches of all bundles. Any thread.
public final class HistoryCacheCounters: Sendable {
    /// Why something left a cache.
    public enum EvictionCause: String, Sendable, CaseIterable {
        /// Its bytes were needed, or the budget was lowered.
        case budget
        /// A newer history of the same user took its place.
        case replaced
        /// The user was removed.
        case user
        /// Everything was removed.
        case cleared
        /// The bundle went, and its cache with it.
        case retired
    }

    private let outcomes = Numbers<HistoryOutcome>()
    private let causes = Numbers<EvictionCause>()
    private let waits = Atomic<Int>(0)
    private let reusedTokens = Atomic<Int>(0)
    private let computedTokens = Atomic<Int>(0)
    private let savedNanoseconds = Atomic<Int>(0)

    /// All zero.
    public init() {}

    /// All numbers, each as it is now.
    public var reading: Reading {
        Reading(
            outcomes: outcomes.reading, evictions: causes.reading, waits: waits.load(ordering: .relaxed),
            reusedTokens: reusedTokens.load(ordering: .relaxed),
            computedTokens: computedTokens.load(ordering: .relaxed),
            savedNanoseconds: savedNanoseconds.load(ordering: .relaxed))
    }

    /// Adds computing time that reused rows have saved, as the caller has measured what a row costs.
    public func addSaved(nanoseconds: Int) { savedNanoseconds.add(nanoseconds, ordering: .relaxed) }

    func count(_ match: HistoryMatch, events: Int) {
        outcomes.add(match.outcome)
        reusedTokens.add(match.reusedRows, ordering: .relaxed)
        computedTokens.add(events - match.reusedRows, ordering: .relaxed)
    }

    func count(_ cause: EvictionCause, _ chains: Int) { causes.add(cause, chains) }

    func countWait() { waits.add(1, ordering: .relaxed) }

    /// The numbers at one moment.
    public struct Reading: Sendable {
        /// Requests by outcome.
        public let outcomes: [HistoryOutcome: Int]
        /// Histories that left, by cause.
        public let evictions: [EvictionCause: Int]
        /// Requests that waited for another one of the same user.
        public let waits: Int
        /// Rows of histories that were not computed.
        public let reusedTokens: Int
        /// Rows of histories that were computed.
        public let computedTokens: Int
        /// Computing time saved, as added by the callers.
        public let savedNanoseconds: Int
    }
}

/// A counter for each case.
private struct Numbers<Key: Hashable & CaseIterable & Sendable>: Sendable {
    private final class Cell: Sendable {
        let value = Atomic<Int>(0)
    }

    private let cells = Dictionary(uniqueKeysWithValues: Key.allCases.map { ($0, Cell()) })

    var reading: [Key: Int] { cells.mapValues { $0.value.load(ordering: .relaxed) } }

    func add(_ key: Key, _ number: Int = 1) { cells[key]?.value.add(number, ordering: .relaxed) }
}
