internal import Threading

/// The least processor time of `rounds` calls, in nanoseconds.
func leastTime<E: Error>(_ rounds: Int, _ body: () throws(E) -> Void) throws(E) -> Double {
    var best = Double.infinity
    for _ in 0..<rounds {
        let start = ProcessStatistics.processorTime
        try body()
        let time = (ProcessStatistics.processorTime - start).components
        best = min(best, Double(time.seconds) * 1e9 + Double(time.attoseconds) / 1e9)
    }
    return best
}
