internal import Threading

/// The least processor time of `rounds` calls of `body`, in nanoseconds; `prepare` comes before each and does
/// not count.
func leastTime(
    _ rounds: Int, _ body: () throws -> Void, preparing prepare: (Int) throws -> Void = { _ in }
) throws -> Double {
    var best = Double.infinity
    for round in 0..<rounds {
        try prepare(round)
        let start = ProcessStatistics.processorTime
        try body()
        let time = (ProcessStatistics.processorTime - start).components
        best = min(best, Double(time.seconds) * 1e9 + Double(time.attoseconds) / 1e9)
    }
    return best
}
