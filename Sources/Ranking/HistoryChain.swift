internal import Kernels

/// One history of a user with its keys and values; frozen.
final class HistoryChain: Sendable {
    /// One event as the window has it.
    struct Event: Sendable, Equatable {
        let row: UInt32
        let action: Int32
        let time: Double
    }

    /// What a chain costs besides its arrays: objects, array heads, the user's place in the tables.
    private static let overhead = 512

    /// Number of the first event in the whole history.
    let start: Int
    /// Events, oldest first, ≥ 1.
    let events: [Event]
    /// One per full block.
    let digests: [HistoryFingerprint.Digest]
    /// Sixteen events each, the last one perhaps fewer.
    let blocks: [KeyValueBlock]
    /// The newest row after the last layer, [1, D], if it is known.
    let lastRow: Matrix?
    /// The time that the newest row was computed with.
    let next: Double
    private let pool: KeyValuePool
    private let reserved: Int

    /// The first `count` events of `window`; `blocks` holds their keys and values. The caller has reserved
    /// `reservation` bytes in the pool, which the chain gives back.
    init(
        _ window: HistoryWindow, count: Int, digests: [HistoryFingerprint.Digest], blocks: [KeyValueBlock],
        lastRow: Matrix?, next: Double, pool: KeyValuePool, reserved: Int
    ) {
        precondition(
            (1...window.count).contains(count) && blocks.count == Self.blocks(count),
            "\(blocks.count) blocks for \(count) of \(window.count) events")
        start = window.start
        events = (0..<count).map { i in
            Event(
                row: UInt32(truncatingIfNeeded: window.itemRows[i]),
                action: Int32(truncatingIfNeeded: window.actions[i]), time: window.times[i])
        }
        self.digests = digests
        self.blocks = blocks
        self.lastRow = lastRow
        self.next = next
        self.pool = pool
        self.reserved = reserved
    }

    deinit { pool.unreserve(reserved) }

    /// Blocks for `count` events.
    static func blocks(_ count: Int) -> Int { (count + KeyValueBlock.events - 1) / KeyValueBlock.events }

    /// Bytes of a chain without its blocks.
    static func byteCount(events: Int, dimension: Int, user: String) -> Int {
        let perBlock = MemoryLayout<HistoryFingerprint.Digest>.stride + 128  // 128: the block's objects
        return overhead + user.utf8.count + events * MemoryLayout<Event>.stride + blocks(events) * perBlock
            + dimension * 4
    }

    /// Bytes that count for this chain alone.
    var byteCount: Int { reserved + blocks.count * pool.blockBytes }

    /// Bytes of the blocks that both chains refer to.
    func sharedBytes(with other: HistoryChain) -> Int {
        zip(blocks, other.blocks).prefix { $0 === $1 }.count * pool.blockBytes
    }

    // MARK: Comparing

    /// Events at the beginning that can be common, by the hashes of full blocks; no more are.
    func commonEventsMaximum(_ digests: [HistoryFingerprint.Digest]) -> Int {
        let equal = zip(self.digests, digests).prefix { $0 == $1 }.count
        return (equal + 1) * KeyValueBlock.events - 1
    }

    /// Events at the beginning that are the window's, event by event; 0 when the windows begin at different
    /// events, because then the positions differ.
    func commonEvents(_ window: HistoryWindow) -> Int {
        guard start == window.start else { return 0 }
        var i = 0
        let end = min(events.count, window.count)
        while i < end, Int(events[i].row) == window.itemRows[i], Int(events[i].action) == window.actions[i],
            events[i].time == window.times[i]
        {
            i += 1
        }
        return i
    }

    /// Whether this chain is `other` grown, and perhaps moved on: nobody will ask for `other` again.
    func supersedes(_ other: HistoryChain) -> Bool {
        let moved = start - other.start
        guard moved >= 0 else { return false }
        let rest = other.events.dropFirst(moved)
        return rest.count <= events.count && zip(rest, events).allSatisfy { $0 == $1 }
    }
}
