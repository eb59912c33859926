import Artifacts
import Ranking
import RecCore
import Retrieval
import UserState

/// A user's kept events as one version's models see them.
struct StoredHistory {
    /// Known events, oldest first: as many of the newest as the models may look at.
    private(set) var history: [HistoryEvent] = []
    /// `Query.historyOffset` of `history`.
    private(set) var offset = 0
    /// Every known event that is kept, also those no model looks at.
    private(set) var seen: [SeenEvent] = []
    /// Kept events whose items the catalogue does not have.
    private(set) var unknown = 0

    /// An event as rules about it read it: with the caller's own name of the action.
    typealias SeenEvent = (row: Int, action: String?, time: Double?)

    /// Resolves the events of `user` by their items' and actions' names.
    ///
    /// Events are numbered over the whole history, those of unknown items too: an event keeps its number when
    /// others follow it and when the oldest is kept no longer, so that the model's window stands still for a
    /// block of events, and a prefix that was encoded before can be used again.
    init(_ user: StoredUser, _ snapshot: Snapshot) {
        let actions = snapshot.manifest.sequence?.actions ?? []
        let entries = Dictionary(
            actions.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        let total = max(user.total, user.events.count)
        var oldest = total - user.events.count
        var numbers: [Int] = []
        seen.reserveCapacity(user.events.count)
        for (index, event) in user.events.enumerated() {
            guard let row = snapshot.catalog.row(of: event.itemID) else {
                unknown += 1
                continue
            }
            seen.append((row, event.action, event.time))
            history.append(
                HistoryEvent(row: row, action: event.action.flatMap { entries[$0] } ?? 0, time: event.time))
            numbers.append(total - user.events.count + index)
        }
        let surplus = history.count - ResolvedRequest.storedHistoryMaximum
        if surplus > 0 {
            history.removeFirst(surplus)
            numbers.removeFirst(surplus)
            oldest = numbers.first ?? oldest
        }
        guard let model = snapshot.manifest.sequence else {
            offset = oldest
            return
        }
        let place = Self.place(
            numbers, oldest: oldest, total: total, maxEvents: model.maxEvents, block: model.windowBlock)
        history.removeFirst(place.leftOut)
        offset = place.offset
    }

    /// How a model with windows of `maxEvents` events in steps of `block` is to be shown events so that its
    /// window begins where the total count says.
    ///
    /// - Parameters:
    ///   - numbers: of the known events, ascending.
    ///   - oldest: number of the oldest event there is.
    /// - Returns: events at the beginning to leave out, and the offset of the others.
    static func place(
        _ numbers: [Int], oldest: Int, total: Int, maxEvents: Int, block: Int
    ) -> (leftOut: Int, offset: Int) {
        func windowStart(_ total: Int) -> Int {
            HistoryWindow.start(total: total, maxEvents: maxEvents, block: block)
        }
        func offset(_ numbers: ArraySlice<Int>, from first: Int) -> Int {
            let start = max(windowStart(total), first)
            return start - numbers.prefix { $0 < start }.count
        }
        let all = offset(numbers[...], from: oldest)
        // A window that begins with the oldest event would move with each one that goes: whole blocks of them
        // are left out then. Little is computed again where there is little.
        guard all > windowStart(all + numbers.count), total - oldest >= 2 * block else { return (0, all) }
        let first = (oldest + block - 1) / block * block
        let leftOut = numbers.prefix { $0 < first }.count
        return (leftOut, offset(numbers.dropFirst(leftOut), from: first))
    }
}
