/// What a long queue makes answers leave out, before any request is refused.
///
/// A rung is left once the queue has filled a share of what it may, and entered again only when it is a sixth
/// shorter: answers do not change with every request.
struct Relief: Sendable {
    /// Shares of the allowed wait at which a rung is left, the fullest first.
    private static let thresholds = [2.0 / 3, 7.0 / 9, 8.0 / 9]
    private static let slack = 1.0 / 6

    private var isLeft = [false, false, false]

    /// The fullest rung in use.
    var plan: StagePlan { StagePlan(rawValue: isLeft.lastIndex(of: true).map { $0 + 1 } ?? 0) ?? .full }

    /// The fullest answer for a request behind which `wait` nanoseconds of work wait, of `patience` allowed.
    mutating func plan(wait: UInt64, patience: UInt64) -> StagePlan {
        let pressure = Double(wait) / Double(max(patience, 1))
        for rung in isLeft.indices {
            isLeft[rung] = pressure >= Self.thresholds[rung] - (isLeft[rung] ? Self.slack : 0)
        }
        return plan
    }
}
