/// Says how long a commit may wait for more changes.
///
/// One that comes alone waits for nothing. While commits hold several changes, as of many clients that post
/// one by one, they begin at intervals: so each holds more, and fewer syncs are made.
struct CommitPacer {
    /// Nanoseconds between the beginnings of commits.
    let interval: UInt64
    /// A commit of so many waits for no more: its sync costs less than they do.
    let enoughEvents = 64

    private var begun: UInt64 = 0
    private var lastChanges = 0

    init(interval: UInt64) { self.interval = interval }

    /// Until when to wait for more than the changes that there are; nil not at all.
    func due(changes: Int, events: Int, now: UInt64) -> UInt64? {
        guard max(changes, lastChanges) > 1, events < enoughEvents else { return nil }
        let due = begun &+ interval
        return due > now && due &- now <= interval ? due : nil
    }

    /// A commit of so many changes begins.
    mutating func begin(changes: Int, now: UInt64) { (begun, lastChanges) = (now, changes) }
}
