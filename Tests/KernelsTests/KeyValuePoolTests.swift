import TestSupport
import Testing
import Threading

@testable import Kernels

@Suite struct KeyValuePoolTests {
    /// 64 KiB a block: 32 in a slab.
    static let layout = KeyValueLayout(layers: 2, heads: 2, keyDimension: 128, valueDimension: 128)
    static let block = 65536

    static func fill(_ block: KeyValueBlock, _ value: Float) {
        unsafe block.storage.base.update(repeating: value, count: block.layout.floatCount)
    }

    static func isFilled(_ block: KeyValueBlock, _ value: Float) -> Bool {
        unsafe UnsafeBufferPointer(start: block.storage.base, count: block.layout.floatCount)
            .allSatisfy { $0 == value }
    }

    @Test func `blocks and reservations together stay within the limit`() {
        let pool = KeyValuePool(Self.layout, limit: 10 * Self.block + 100)
        #expect(pool.blockBytes == Self.block)
        var blocks = (0..<10).compactMap { _ in pool.take() }
        #expect(blocks.count == 10 && pool.take() == nil)
        #expect(!pool.reserve(101) && pool.reserve(100) && !pool.reserve(1))
        #expect(pool.bytesInUse == pool.limit)
        blocks.removeLast()
        #expect(pool.reserve(1) && pool.take() == nil)
        pool.unreserve(1)
        #expect(pool.take() != nil)
        pool.unreserve(100)
        blocks = []
        #expect(pool.bytesInUse == 0)
    }

    @Test func `a block is zero when it is lent, whoever had it before`() throws {
        let pool = KeyValuePool(Self.layout, limit: 4 * Self.block)
        for round in 0..<3 {
            var blocks: [KeyValueBlock] = []
            while let block = pool.take() { blocks.append(block) }
            #expect(blocks.count == 4)
            for (index, block) in blocks.enumerated() {
                #expect(Self.isFilled(block, 0))
                Self.fill(block, Float(10 * round + index + 1))
            }
            for (index, block) in blocks.enumerated() {
                #expect(Self.isFilled(block, Float(10 * round + index + 1)))
            }
        }
        #expect(pool.bytesMapped == KeyValuePool.slabStep)
    }

    @Test func `a block outlives the pool's other owners`() {
        var pool: KeyValuePool? = KeyValuePool(Self.layout, limit: 2 * Self.block)
        let block = pool?.take()
        pool = nil
        guard let block else { return #expect(Bool(false), "no block") }
        Self.fill(block, 3)
        #expect(Self.isFilled(block, 3))
    }

    @Test func `under a lowered limit nothing is lent and wholly free slabs are unmapped`() {
        let pool = KeyValuePool(Self.layout, limit: 320 * Self.block)
        var blocks = (0..<320).compactMap { _ in pool.take() }
        #expect(blocks.count == 320 && pool.bytesMapped == 320 * Self.block)
        pool.setLimit(64 * Self.block)
        #expect(pool.take() == nil && pool.bytesInUse == 320 * Self.block)
        blocks.removeSubrange(64...)
        #expect(pool.bytesInUse == 64 * Self.block)
        #expect(pool.bytesMapped <= 3 * KeyValuePool.slabStep)
        blocks = []
        pool.setLimit(0)
        #expect(pool.bytesMapped == 0 && pool.bytesResident == 0 && pool.take() == nil)
        pool.setLimit(Self.block)
        #expect(pool.take() != nil)
    }

    @Test(arguments: [128, 100])
    func `under a lowered limit the free blocks between lent ones lose their pages`(dimension: Int) {
        // 100: blocks do not begin at pages.
        let layout = KeyValueLayout(layers: 2, heads: 2, keyDimension: dimension, valueDimension: 129)
        let pool = KeyValuePool(layout, limit: 256 * Self.block)
        var all: [KeyValueBlock] = []
        while let block = pool.take() {
            Self.fill(block, Float(all.count))
            all.append(block)
        }
        // Half of them before the limit is lowered, a quarter after it.
        var kept = all.enumerated().filter { $0.offset % 2 == 0 }
        all = []
        #expect(pool.bytesResident > 250 * Self.block)
        pool.setLimit(64 * Self.block)
        #expect(pool.bytesResident == kept.count * pool.blockBytes)
        kept = kept.filter { $0.offset % 4 == 0 }
        #expect(pool.bytesInUse == kept.count * pool.blockBytes)
        #expect(pool.bytesResident <= 64 * Self.block + 2 * KeyValuePool.slabStep)
        for (index, block) in kept { #expect(Self.isFilled(block, Float(index))) }
        pool.setLimit(256 * Self.block)
        while let block = pool.take() {
            #expect(Self.isFilled(block, 0))
            Self.fill(block, -1)
            all.append(block)
        }
        for (index, block) in kept { #expect(Self.isFilled(block, Float(index))) }
    }

    @Test func `threads share a pool without exceeding it or touching each other's blocks`() throws {
        let pool = KeyValuePool(
            KeyValueLayout(layers: 1, heads: 1, keyDimension: 8, valueDimension: 8), limit: 200 * 1024)
        let faults = Lock(0)
        let threads = try (0..<8).map { thread in
            try NamedThread(name: "pool-\(thread)") {
                var random = SeededRandom(UInt64(thread))
                var mine: [(KeyValueBlock, Float)] = []
                var wrong = 0
                for step in 0..<2000 {
                    if Int.random(in: 0..<3, using: &random) > 0, let block = pool.take() {
                        if !Self.isFilled(block, 0) { wrong += 1 }
                        let value = Float(thread * 10_000 + step + 1)
                        Self.fill(block, value)
                        mine.append((block, value))
                    } else if !mine.isEmpty {
                        let (block, value) = mine.remove(at: Int.random(in: mine.indices, using: &random))
                        if !Self.isFilled(block, value) { wrong += 1 }
                    }
                    if mine.count > 40 { mine.removeFirst(20) }
                    if pool.bytesInUse > 200 * 1024 { wrong += 1 }
                }
                faults.withLock { $0 += wrong }
            }
        }
        for thread in threads { thread.join() }
        #expect(faults.withLock { $0 } == 0)
        #expect(pool.bytesInUse == 0)
    }
}
