import Synchronization
import Testing
import Threading

struct LendingShelfTests {
    /// Counts how many there are, and notices when two threads use one at a time.
    private final class Tool {
        let alive: Counter
        let inUse = Atomic<Bool>(false)
        init(_ alive: Counter) {
            self.alive = alive
            alive.count.wrappingAdd(1, ordering: .relaxed)
        }
        deinit { alive.count.wrappingSubtract(1, ordering: .relaxed) }
    }

    private final class Counter: Sendable {
        let count = Atomic<Int>(0)
        var value: Int { count.load(ordering: .relaxed) }
    }

    @Test func `no value is with two borrowers at a time, and no more are kept than fit`() throws {
        let alive = Counter()
        let clashes = Counter()
        var shelf: LendingShelf<Tool>? = LendingShelf(capacity: 2) { Tool(alive) }
        var threads: [NamedThread] = []
        for index in 0..<4 {
            let shelf = try #require(shelf)
            threads.append(
                try NamedThread(name: "borrower-\(index)") {
                    for _ in 0..<2000 {
                        shelf.lend { tool in
                            if tool.inUse.exchange(true, ordering: .acquiring) {
                                clashes.count.wrappingAdd(1, ordering: .relaxed)
                            }
                            tool.inUse.store(false, ordering: .releasing)
                        }
                    }
                })
        }
        for thread in threads { thread.join() }
        threads = []
        #expect(clashes.value == 0)
        #expect((1...2).contains(alive.value))
        shelf = nil
        #expect(alive.value == 0)
    }

    @Test func `filled values are shown once each and lent before new ones are made`() {
        let alive = Counter()
        let shelf = LendingShelf(capacity: 3) { Tool(alive) }
        var shown = 0
        shelf.fill { _ in shown += 1 }
        #expect(shown == 3 && alive.value == 3)
        shelf.lend { _ in shelf.lend { _ in shelf.lend { _ in #expect(alive.value == 3) } } }
        #expect(alive.value == 3)
    }

    @Test func `a value comes back after an error`() {
        struct Failure: Error {}
        let alive = Counter()
        let shelf = LendingShelf(capacity: 1) { Tool(alive) }
        #expect(throws: Failure.self) { try shelf.lend { _ in throw Failure() } }
        shelf.lend { _ in #expect(alive.value == 1) }
    }
}
