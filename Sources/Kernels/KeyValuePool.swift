internal import Glibc
internal import Threading

/// Memory for blocks of one layout under a byte limit that can be changed at any time.
///
/// Blocks are cut from slabs of at least 2 MiB that are mapped when needed and touched when written. A
/// block's memory comes back when the last reference to the block goes. Whatever a lowered limit has no room
/// for goes back to the system: wholly free slabs are unmapped, the pages of other free blocks discarded. All
/// calls from any thread; O(1), except `setLimit`.
public final class KeyValuePool: Sendable {
    /// 2 MiB: one huge page.
    static let slabStep = 2 << 20
    /// Blocks of a slab at least, so that what is left over at its end stays small.
    static let slabBlocksMinimum = 16

    /// The shape of all blocks.
    public let layout: KeyValueLayout
    /// Bytes that a block counts for: its floats, in whole cache lines.
    public let blockBytes: Int
    private let slabBytes: Int
    private let state: Lock<State>

    /// What is counted; touched only under the lock.
    private struct State {
        var limit: Int
        var blocks = 0
        var reserved = 0
        /// Bytes of all slabs.
        var mapped = 0
        /// Bytes of blocks that were written since they came from the system, lent or free.
        var resident = 0
        /// Slabs with a block to lend.
        var open: [Slab] = []

        /// Files `slab` under open or not, as its blocks are; O(1).
        mutating func place(_ slab: Slab) {
            if slab.hasSlot {
                guard slab.position == nil else { return }
                slab.position = open.count
                open.append(slab)
            } else {
                close(slab)
            }
        }

        mutating func close(_ slab: Slab) {
            guard let position = slab.position, let last = open.popLast() else { return }
            slab.position = nil
            guard last !== slab else { return }
            open[position] = last
            last.position = position
        }

        /// Counts a wholly free slab as gone, which it is with the caller's reference.
        mutating func forget(_ slab: Slab, slabBytes: Int, blockBytes: Int) {
            close(slab)
            mapped -= slabBytes
            resident -= slab.usedCount * blockBytes
        }
    }

    /// An empty pool that lends at most `limit` bytes.
    public init(_ layout: KeyValueLayout, limit: Int) {
        self.layout = layout
        blockBytes = (layout.byteCount + 63) / 64 * 64
        let wanted = max(Self.slabStep, Self.slabBlocksMinimum * blockBytes)
        slabBytes = (wanted + Self.slabStep - 1) / Self.slabStep * Self.slabStep
        state = Lock(State(limit: max(0, limit)))
    }

    // MARK: Lending

    /// A block of zeros; nil at the limit or when the system has no memory.
    public func take() -> KeyValueBlock? {
        let loan = state.withLock { state -> Loan? in
            guard state.limit - state.reserved - state.blocks * blockBytes >= blockBytes else { return nil }
            if state.open.isEmpty {
                guard let slab = Slab(bytes: slabBytes, blockBytes: blockBytes) else { return nil }
                state.mapped += slabBytes
                state.place(slab)
            }
            let slab = state.open[state.open.count - 1]
            guard let (slot, isUsed) = slab.takeSlot() else { return nil }
            state.blocks += 1
            if !isUsed { state.resident += blockBytes }
            state.place(slab)
            return Loan(pool: self, slab: slab, slot: slot, isUsed: isUsed)
        }
        return loan.map { KeyValueBlock($0) }
    }

    /// Counts `bytes` that the caller keeps elsewhere against the limit; false when they do not fit.
    public func reserve(_ bytes: Int) -> Bool {
        precondition(bytes >= 0, "\(bytes) bytes")
        return state.withLock { state in
            guard state.limit - state.reserved - state.blocks * blockBytes >= bytes else { return false }
            state.reserved += bytes
            return true
        }
    }

    /// The caller has freed `bytes` that it had reserved.
    public func unreserve(_ bytes: Int) { state.withLock { $0.reserved -= bytes } }

    /// A block of the pool is no longer referenced.
    func takeBack(_ loan: Loan) {
        // Beyond the limit by a slab, not by a block: a limit is seldom a whole number of slabs.
        let isSurplus = state.withLock { state in
            guard state.resident - slabBytes >= state.limit else { return false }
            state.resident -= blockBytes
            return true
        }
        if isSurplus { loan.slab.discard(loan.slot, blockBytes: blockBytes) }
        let unmapped = state.withLock { state -> Slab? in
            let slab = loan.slab
            slab.putBack(loan.slot, isUsed: !isSurplus)
            state.place(slab)
            state.blocks -= 1
            guard slab.isUnused, state.mapped - slabBytes >= state.limit else { return nil }
            state.forget(slab, slabBytes: slabBytes, blockBytes: blockBytes)
            return slab
        }
        withExtendedLifetime(unmapped) {}
    }

    // MARK: Limit

    /// Most bytes lent and reserved from now on. Above a lowered limit nothing more is given until enough has
    /// come back.
    public func setLimit(_ bytes: Int) {
        let (unmapped, left) = state.withLock { state in
            state.limit = max(0, bytes)
            guard state.mapped > state.limit else { return ([Slab](), [Slab]()) }
            let unused = state.open.filter(\.isUnused)
            for slab in unused { state.forget(slab, slabBytes: slabBytes, blockBytes: blockBytes) }
            return (unused, state.open)
        }
        withExtendedLifetime(unmapped) {}
        for slab in left {
            // Nobody can take these while they are out of the slab's lists.
            let slots = state.withLock { state -> [Int32] in
                guard state.resident > state.limit else { return [] }
                let slots = slab.takeUsedSlots()
                state.resident -= slots.count * blockBytes
                state.place(slab)
                return slots
            }
            for slot in slots { slab.discard(slot, blockBytes: blockBytes) }
            state.withLock { state in
                for slot in slots { slab.putBack(slot, isUsed: false) }
                state.place(slab)
            }
        }
    }

    /// The bytes that may be lent and reserved.
    public var limit: Int { state.withLock { $0.limit } }

    /// Bytes lent and reserved now; never above `limit`, except after it was lowered until enough comes back.
    public var bytesInUse: Int { state.withLock { $0.blocks * blockBytes + $0.reserved } }

    /// Bytes mapped from the system now.
    public var bytesMapped: Int { state.withLock { $0.mapped } }

    /// Bytes that may hold physical memory now: blocks lent, and free ones not given back to the system.
    public var bytesResident: Int { state.withLock { $0.resident } }
}

extension KeyValuePool {
    /// One block's place in a slab, lent.
    @safe struct Loan {
        let pool: KeyValuePool
        let slab: Slab
        let slot: Int32
        /// False when the memory comes straight from the system, zero.
        let isUsed: Bool

        @unsafe var base: UnsafeMutableRawPointer { unsafe slab.base + Int(slot) * pool.blockBytes }
    }

    /// One mapping, cut into blocks; unmapped when neither the pool nor a lent block refers to it.
    @safe final class Slab: @unchecked Sendable {
        // @unchecked Sendable: `base` and `bytes` are constant, the rest is touched only under the pool's
        // lock.
        let base: UnsafeMutableRawPointer
        private let bytes: Int
        private let slots: Int
        /// Free blocks with something in them, and free blocks that are as the system gave them.
        private var used: [Int32] = []
        private var fresh: [Int32]
        /// Position among the pool's open slabs.
        fileprivate var position: Int?

        var hasSlot: Bool { !used.isEmpty || !fresh.isEmpty }
        var isUnused: Bool { used.count + fresh.count == slots }
        var usedCount: Int { used.count }

        /// Nil when the system has no memory.
        init?(bytes: Int, blockBytes: Int) {
            // SAFETY: an anonymous mapping of our own, one step larger so that an aligned part can be kept;
            // the ends are unmapped at once, the rest in deinit.
            let step = KeyValuePool.slabStep
            let wide = unsafe mmap(
                nil, bytes + step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            guard let wide = unsafe wide, unsafe wide != MAP_FAILED else { return nil }
            let head = (step - Int(bitPattern: wide) % step) % step
            unsafe base = wide + head
            if head > 0 { _ = unsafe munmap(wide, head) }
            if head < step { _ = unsafe munmap(base + bytes, step - head) }
            _ = unsafe madvise(base, bytes, MADV_HUGEPAGE)
            self.bytes = bytes
            slots = bytes / blockBytes
            fresh = Array((0..<Int32(slots)).reversed())
        }

        deinit {
            // SAFETY: mapped in init; every block in it would keep this object alive.
            unsafe _ = munmap(base, bytes)
        }

        /// A free block, rather one whose memory is there already.
        func takeSlot() -> (slot: Int32, isUsed: Bool)? {
            if let slot = used.popLast() { return (slot, true) }
            return fresh.popLast().map { ($0, false) }
        }

        func takeUsedSlots() -> [Int32] {
            defer { used.removeAll() }
            return used
        }

        func putBack(_ slot: Int32, isUsed: Bool) {
            if isUsed { used.append(slot) } else { fresh.append(slot) }
        }

        /// Gives the pages of a free block back to the system; its bytes are zero afterwards.
        func discard(_ slot: Int32, blockBytes: Int) {
            // SAFETY: nobody else refers to this block: it is neither lent nor in a list. Pages shared with a
            // neighbour stay.
            let first = Int(slot) * blockBytes
            let pageStart = (first + 4095) / 4096 * 4096
            let pageEnd = (first + blockBytes) / 4096 * 4096
            guard pageStart < pageEnd,
                unsafe madvise(base + pageStart, pageEnd - pageStart, MADV_DONTNEED) == 0
            else {
                unsafe memset(base + first, 0, blockBytes)
                return
            }
            unsafe memset(base + first, 0, pageStart - first)
            unsafe memset(base + pageEnd, 0, first + blockBytes - pageEnd)
        }
    }
}
