import Glibc
import Testing
import Threading

struct SignalsTests {
    @Test func `signals sent to a blocking thread arrive as values`() throws {
        // On a thread of its own, so that the mask of the test's thread stays as it is.
        let seen = Lock<[Signal?]>([])
        let thread = try NamedThread(name: "signals") {
            do {
                try Signals.block()
                for number in [SIGHUP, SIGTERM, SIGINT] {
                    _ = pthread_kill(pthread_self(), number)
                    let signal = try Signals.wait(within: .seconds(10))
                    seen.withLock { $0.append(signal) }
                }
                let none = try Signals.wait(within: .zero)
                seen.withLock { $0.append(none) }
            } catch {
                Issue.record(error)
            }
        }
        thread.join()
        #expect(seen.withLock { $0 } == [.hangUp, .terminate, .interrupt, nil])
    }
}
