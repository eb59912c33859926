public import RecCore

/// The events of a history that a sequence model sees, as arrays of its own; one is reused for all requests
/// of a thread.
public struct HistoryWindow: Sendable {
    /// Most events, N.
    public let maxEvents: Int
    /// The window moves in steps of this many events, B: 1…N.
    public let block: Int
    /// Number of the first event seen, counted from the beginning of the whole history.
    public private(set) var start = 0
    /// Catalogue rows, oldest event first.
    public private(set) var itemRows: [Int] = []
    /// Indices into the model's action names.
    public private(set) var actions: [Int] = []
    /// Unix seconds; a missing time is filled in.
    public private(set) var times: [Double] = []

    /// Events seen.
    public var count: Int { itemRows.count }

    /// An empty window with room for `maxEvents` ≥ 1 events.
    public init(maxEvents: Int, block: Int) {
        precondition(
            maxEvents >= 1 && (1...maxEvents).contains(block), "window of \(maxEvents) in blocks of \(block)")
        self.maxEvents = maxEvents
        self.block = block
        itemRows.reserveCapacity(maxEvents)
        actions.reserveCapacity(maxEvents)
        times.reserveCapacity(maxEvents)
    }

    /// B·ceil(max(0, total − N)/B): a function of the total count alone, so that a growing history keeps its
    /// window for B events at a time (ModelFormat.md §3.4).
    public static func start(total: Int, maxEvents: Int, block: Int) -> Int {
        let surplus = total - maxEvents
        guard surplus > 0 else { return 0 }
        return (surplus - 1) / block * block + block
    }

    /// Takes the window of a history; no allocation.
    ///
    /// A missing time is its predecessor's in `history`, leading ones are the first known time, and without
    /// any known time all are 0. `offset` older events were left out before `history[0]`; if the window would
    /// begin among them, it begins at `history[0]`.
    public mutating func fill(history: [HistoryEvent], offset: Int = 0) {
        itemRows.removeAll(keepingCapacity: true)
        actions.removeAll(keepingCapacity: true)
        times.removeAll(keepingCapacity: true)
        // 2^48: more than any history, and far from overflow.
        let left = min(max(0, offset), 1 << 48)
        let total = left + history.count
        start = max(left, Self.start(total: total, maxEvents: maxEvents, block: block))
        let first = start - left
        var time = history.first { $0.time != nil }?.time ?? 0
        for index in history.indices {
            time = history[index].time ?? time
            guard index >= first else { continue }
            itemRows.append(history[index].row)
            actions.append(history[index].action)
            times.append(time)
        }
    }
}
