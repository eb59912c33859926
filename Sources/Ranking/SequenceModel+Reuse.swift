internal import Kernels

/// Which rows of one history serve another: what a row of the model depends on besides its own event and the
/// ones before it.
enum RowDependence: Sendable {
    /// Nothing: HSTU without a time bias.
    case earlierEvents
    /// The class of the time from each of those events to the next event, or to the question after the last
    /// one: HSTU with a time bias.
    case nextTime(TimeBuckets)
    /// The number of events, since positions count from the newest one: SASRec.
    case eventCount

    /// The rows at the beginning of `window` that equal the rows of a kept history.
    ///
    /// - Parameters:
    ///   - common: events at the beginning that both have.
    ///   - keptCount: events of the kept history.
    ///   - keptNext: the time that its last common row was computed with.
    ///   - now: the time that the window's newest row has to be computed with.
    func equalRows(common: Int, keptCount: Int, keptNext: Double, window: HistoryWindow, now: Double) -> Int {
        switch self {
        case .earlierEvents: return common
        case .eventCount: return keptCount == window.count ? common : 0
        case .nextTime(let buckets):
            // Only the last common row can have another next time: the others' is the time of a common event.
            guard common > 0 else { return 0 }
            let next = common < window.count ? window.times[common] : now
            guard next != keptNext else { return common }
            let isSame = window.times[..<common].allSatisfy {
                buckets.bucket(next - $0) == buckets.bucket(keptNext - $0)
            }
            return isSame ? common : common - 1
        }
    }
}

extension SequenceModel {
    /// What a row of this model depends on.
    var rowDependence: RowDependence {
        switch family {
        case .hstu(let model): model.hasTimeBias ? .nextTime(model.buckets) : .earlierEvents
        case .sasrec: .eventCount
        }
    }
}
