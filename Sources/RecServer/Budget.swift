import Threading

/// A request's time budget, and what the stages have cost lately.
struct Budget {
    /// Monotonic nanoseconds.
    let deadline: UInt64
    let mayDegrade: Bool

    init(receivedAt: UInt64, milliseconds: Int, mayDegrade: Bool) {
        deadline = receivedAt &+ UInt64(clamping: milliseconds) &* 1_000_000
        self.mayDegrade = mayDegrade
    }

    /// Whether a stage of this cost may begin. Where nothing may be left out only the deadline itself counts:
    /// an estimate
    /// must not refuse what would have been in time.
    /// - Throws: `.deadline` when it has passed and the caller allows no lesser answer.
    func allows(_ nanoseconds: UInt64) throws(Problem) -> Bool {
        let now = MonotonicClock.nanoseconds
        if mayDegrade { return now &+ nanoseconds <= deadline }
        if now > deadline {
            throw Problem(.deadline, "the budget was used up before the answer was complete")
        }
        return true
    }
}

/// Smoothed cost per unit of a stage's work, measured by the thread that does it.
struct StageCost {
    /// Nanoseconds per event or candidate; 0 until measured.
    private(set) var perUnit = 0.0

    /// What `units` will cost.
    func estimate(_ units: Int) -> UInt64 { UInt64(perUnit * Double(units)) }

    /// Learns from a run; 1/8 of the difference, so that one slow run does not switch a stage off.
    mutating func learn(nanoseconds: UInt64, units: Int) {
        guard units > 0 else { return }
        let sample = Double(nanoseconds) / Double(units)
        perUnit += perUnit == 0 ? sample : (sample - perUnit) / 8
    }
}
