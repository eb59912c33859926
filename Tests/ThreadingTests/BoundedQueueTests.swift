import Testing
import Threading

struct BoundedQueueTests {
    @Test func `a full queue refuses instead of blocking`() {
        let queue = BoundedQueue<Int>(capacity: 2)
        #expect(queue.offer(1))
        #expect(queue.offer(2))
        #expect(!queue.offer(3))
        #expect(queue.count == 2)
        #expect(queue.take() == 1)
        #expect(queue.offer(3))
        #expect(queue.takeIfAny() == 2)
        #expect(queue.take() == 3)
        #expect(queue.takeIfAny() == nil)
    }

    @Test func `a closed queue gives what is left and then nil`() {
        let queue = BoundedQueue<Int>(capacity: 4)
        #expect(queue.offer(7))
        queue.close()
        #expect(queue.isClosed)
        #expect(!queue.offer(8))
        #expect(queue.take() == 7)
        #expect(queue.take() == nil)
    }

    @Test func `closing wakes every waiting taker`() throws {
        let queue = BoundedQueue<Int>(capacity: 1)
        let threads = try (0..<3).map { index in
            try NamedThread(name: "taker-\(index)") { #expect(queue.take() == nil) }
        }
        queue.close()
        for thread in threads { thread.join() }
    }

    @Test func `what many threads offer many threads take once each`() throws {
        let queue = BoundedQueue<Int>(capacity: 16)
        let taken = Lock<[Int]>([])
        let takers = try (0..<3).map { index in
            try NamedThread(name: "taker-\(index)") {
                while let element = queue.take() { taken.withLock { $0.append(element) } }
            }
        }
        let givers = try (0..<3).map { giver in
            try NamedThread(name: "giver-\(giver)") {
                for number in 0..<1_000 {
                    while !queue.offer(giver * 1_000 + number) {}
                }
            }
        }
        for thread in givers { thread.join() }
        queue.close()
        for thread in takers { thread.join() }
        #expect(taken.withLock { $0.sorted() } == Array(0..<3_000))
    }
}
