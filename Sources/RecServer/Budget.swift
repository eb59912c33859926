import Threading

/// A request's time budget.
struct Budget {
    /// Monotonic nanoseconds.
    let deadline: UInt64
    let mayDegrade: Bool
    /// The fullest answer that others who wait leave time for.
    let relief: StagePlan

    /// Nanoseconds that the request waited for a thread.
    let waited: UInt64

    init(
        receivedAt: UInt64, milliseconds: Int, mayDegrade: Bool, relief: StagePlan = .full, waited: UInt64 = 0
    ) {
        deadline = receivedAt &+ UInt64(clamping: milliseconds) &* 1_000_000
        self.mayDegrade = mayDegrade
        self.relief = relief
        self.waited = waited
    }

    /// Nanoseconds left at `now`, 0 when the deadline has passed.
    func remaining(at now: UInt64 = MonotonicClock.nanoseconds) -> UInt64 {
        deadline > now ? deadline - now : 0
    }

    /// Whether work of `estimate` nanoseconds does not fit any more and would have without the wait.
    func isSpentByWaiting(for estimate: UInt64, at now: UInt64 = MonotonicClock.nanoseconds) -> Bool {
        let remaining = remaining(at: now)
        return estimate > remaining && estimate <= remaining &+ waited
    }

    /// - Throws: `.deadline` when it has passed and the caller allows no lesser answer. Only the deadline
    ///   itself counts there: an estimate must not refuse what would have been in time.
    func check() throws(Problem) {
        if !mayDegrade, remaining() == 0 {
            throw Problem(.deadline, "the budget was used up before the answer was complete")
        }
    }
}
