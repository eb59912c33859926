public import Kernels

/// What a sequence model keeps of one history: keys and values in blocks, and the rows that were computed
/// last. Storage for N events, reused; for one thread.
///
/// Everything a candidate needs is here, so a prefix computed once serves all microbatches of a request. A
/// block is written only by the prefill that took it, from the caller or from the prefix's own: blocks of the
/// caller's may be shared with other threads as soon as that prefill is over.
public final class SequencePrefix {
    let sequence: KeyValueSequence
    /// Blocks for what nobody else shall read, each always at its own place; made when first needed.
    private var own: [KeyValueBlock?]
    /// Rows after the last layer (and the final norm, if the model has one), [N, D].
    let outputs: MutableMatrix
    /// Those of `outputs` that belong to this history, up to its end.
    private var computed = 0..<0
    /// The row of the newest adopted event, where it came along.
    private var adopted: Matrix?
    /// Time of each event in Unix seconds.
    private(set) var times: [Double] = []

    /// Events held.
    public private(set) var count = 0

    init(_ layout: KeyValueLayout, maxEvents: Int, dimension: Int) {
        let capacity = KeyValueBlock.count(events: maxEvents)
        sequence = KeyValueSequence(layout, capacity: capacity)
        own = Array(repeating: nil, count: capacity)
        outputs = MutableMatrix(rows: maxEvents, columns: dimension)
        times.reserveCapacity(maxEvents)
    }

    /// The blocks of all events, oldest first; the last may be filled in part.
    public var blocks: [KeyValueBlock] { sequence.blocks }

    /// All rows of the history after the last layer, [count, D]; nil when some came from elsewhere or were
    /// not wanted.
    public var rows: MatrixView? {
        computed == 0..<count ? outputs.view(rows: 0..<count).reading : nil
    }

    /// The newest event's row, [1, D]; nil for an empty history, or when that row was left elsewhere
    /// or not wanted.
    public var lastRow: MatrixView? {
        if let adopted, computed == count..<count { return adopted.view }
        guard count > 0, computed.upperBound == count, !computed.isEmpty else { return nil }
        return outputs.view(rows: count - 1..<count).reading
    }

    /// Forgets the history and lets go of the blocks that are not its own.
    public func reset() {
        sequence.truncate(to: 0)
        computed = 0..<0
        adopted = nil
        count = 0
    }

    /// Begins with `rows` rows that were computed before; `shared`, their blocks, are read only, and
    /// `lastRow`, [1, D], is what the last of them came to, if that is known.
    ///
    /// Traps when there are fewer rows in `shared`, or more than N.
    public func adopt(_ shared: some Collection<KeyValueBlock>, rows: Int, lastRow: Matrix? = nil) {
        precondition(rows >= 0 && rows <= outputs.rows, "\(rows) of at most \(outputs.rows) rows")
        precondition(rows <= shared.count * KeyValueBlock.events, "\(rows) rows in \(shared.count) blocks")
        reset()
        for (index, block) in shared.prefix(KeyValueBlock.count(events: rows)).enumerated() {
            sequence.set(index, to: block)
        }
        computed = rows..<rows
        adopted = lastRow
        count = rows
    }

    /// Makes room for the rows of `window` after the first `reused`, in blocks from `allocate` for as long as
    /// it gives some.
    func prepare(
        _ window: HistoryWindow, reusing reused: Int, outputs: RowOutputs, allocate: (() -> KeyValueBlock?)?
    ) {
        times.removeAll(keepingCapacity: true)
        times.append(contentsOf: window.times)
        let filled = KeyValueBlock.count(events: window.count)
        if reused < window.count {
            var allocate = allocate
            for index in reused / KeyValueBlock.events..<filled {
                let given = allocate?()
                if given == nil { allocate = nil }
                let next = given ?? ownBlock(index)
                if index * KeyValueBlock.events < reused, next !== sequence.blocks[index] {
                    next.copy(from: sequence.blocks[index])
                }
                sequence.set(index, to: next)
            }
            let added = outputs.rows(reused..<window.count, of: window.count)
            // Together with those before them, unless some in between are missing.
            let isJoined = !added.isEmpty && computed.upperBound >= added.lowerBound
            let first = isJoined ? min(computed.lowerBound, added.lowerBound) : added.lowerBound
            computed = first..<window.count
        } else {
            computed = min(computed.lowerBound, window.count)..<min(computed.upperBound, window.count)
        }
        sequence.truncate(to: filled)
        if reused < window.count || window.count < count { adopted = nil }
        count = window.count
    }

    private func ownBlock(_ index: Int) -> KeyValueBlock {
        if let block = own[index] { return block }
        let block = KeyValueBlock(sequence.layout)
        own[index] = block
        return block
    }
}
