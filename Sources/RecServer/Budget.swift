import Threading

/// A request's time budget.
struct Budget {
    /// Monotonic nanoseconds.
    let deadline: UInt64
    let mayDegrade: Bool

    init(receivedAt: UInt64, milliseconds: Int, mayDegrade: Bool) {
        deadline = receivedAt &+ UInt64(clamping: milliseconds) &* 1_000_000
        self.mayDegrade = mayDegrade
    }

    /// Nanoseconds left at `now`, 0 when the deadline has passed.
    func remaining(at now: UInt64 = MonotonicClock.nanoseconds) -> UInt64 {
        deadline > now ? deadline - now : 0
    }

    /// - Throws: `.deadline` when it has passed and the caller allows no lesser answer. Only the deadline
    ///   itself counts there: an estimate must not refuse what would have been in time.
    func check() throws(Problem) {
        if !mayDegrade, remaining() == 0 {
            throw Problem(.deadline, "the budget was used up before the answer was complete")
        }
    }
}
