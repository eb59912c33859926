import Glibc
import Testing
import Threading

struct NamedThreadTests {
    @Test func `a thread runs its body under its name`() throws {
        let seen = Lock("")
        let thread = try NamedThread(name: "loop-7", core: 0) {
            var name = [UInt8](repeating: 0, count: 16)
            let file = unsafe open("/proc/thread-self/comm", O_RDONLY)
            let count = unsafe read(file, &name, 16)
            _ = close(file)
            let text = String(decoding: name.prefix(max(count - 1, 0)), as: UTF8.self)
            seen.withLock { $0 = text }
        }
        thread.join()
        thread.join()
        #expect(seen.withLock { $0 } == "loop-7")
        #expect(NamedThread.processorCount >= 1)
    }

    @Test func `an impossible stack is an error and not a crash`() {
        #expect(throws: ThreadingError.self) {
            _ = try NamedThread(name: "huge", stackBytes: 1 << 60) {}
        }
    }

    @Test func `a lock lets one thread at a time change its value`() throws {
        let sum = Lock(0)
        let threads = try (0..<4).map { index in
            try NamedThread(name: "adder-\(index)") {
                for _ in 0..<1_000 { sum.withLock { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(sum.withLock { $0 } == 4_000)
    }

    @Test func `a latch opens after its last event`() throws {
        let latch = Latch(count: 2)
        #expect(!latch.wait(within: .milliseconds(1)))
        latch.countDown()
        #expect(!latch.wait(within: .zero))
        let thread = try NamedThread(name: "last") { latch.countDown() }
        #expect(latch.wait(within: .seconds(10)))
        latch.countDown()
        #expect(latch.wait(within: .zero))
        thread.join()
    }

    @Test func `durations become nanoseconds without overflow`() {
        #expect(Duration.milliseconds(1_500).nanosecondsClamped == 1_500_000_000)
        #expect(Duration.seconds(-1).nanosecondsClamped == 0)
        #expect(Duration.seconds(Int64.max).nanosecondsClamped == .max)
        #expect(MonotonicClock.nanoseconds <= MonotonicClock.nanoseconds)
        #expect(WallClock.seconds > 1_700_000_000)
    }
}
