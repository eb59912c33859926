import Glibc
import Testing
import Threading

/// Each in a process of its own: handlers and signals belong to the whole process.
struct SignalsTests {
    /// Delivers to the calling thread, before it returns.
    private static func raiseHere(_ number: Int32) { _ = pthread_kill(pthread_self(), number) }

    private static func changeMask(_ how: Int32) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { unsafe sigaddset(&set, number) }
        unsafe pthread_sigmask(how, &set, nil)
    }

    @Test func `a signal to the process arrives whichever thread takes it`() async {
        await #expect(processExitsWith: .success) {
            // Like a thread that a library starts in its constructor.
            let end = Latch(count: 1)
            let older = try NamedThread(name: "older") { _ = end.wait(within: .seconds(60)) }
            try Signals.install()
            // On a thread of its own, which looks for signals but lets none through.
            let seen = Lock<[Signal?]>([])
            SignalsTests.changeMask(SIG_BLOCK)
            let waiter = try NamedThread(name: "waiter") {
                for number in [SIGHUP, SIGTERM, SIGINT] {
                    _ = kill(getpid(), number)
                    let signal = try? Signals.wait(within: .seconds(10))
                    seen.withLock { $0.append(signal) }
                }
            }
            waiter.join()
            end.countDown()
            older.join()
            #expect(seen.withLock { $0 } == [.hangUp, .terminate, .interrupt])
        }
    }

    @Test func `every signal is given once`() async {
        await #expect(processExitsWith: .success) {
            try Signals.install()
            for number in [SIGTERM, SIGTERM, SIGHUP, SIGINT] { SignalsTests.raiseHere(number) }
            var seen: [Signal?] = []
            for _ in 0..<5 { seen.append(try Signals.wait(within: .zero)) }
            #expect(seen == [.terminate, .terminate, .interrupt, .hangUp, nil])
        }
    }

    @Test func `a flood of hang-ups does not hide the end`() async {
        await #expect(processExitsWith: .success) {
            try Signals.install()
            for _ in 0..<5_000 { SignalsTests.raiseHere(SIGHUP) }
            SignalsTests.raiseHere(SIGINT)
            SignalsTests.raiseHere(SIGTERM)
            #expect(try Signals.wait() == .terminate)
            #expect(try Signals.wait() == .interrupt)
            var hangUps = 0
            while try Signals.wait(within: .zero) == .hangUp { hangUps += 1 }
            #expect(hangUps == 5_000)
        }
    }

    @Test func `a waiting thread is woken for signals of another thread, and none is lost`() async {
        await #expect(processExitsWith: .success) {
            try Signals.install()
            let sender = try NamedThread(name: "sender") {
                for _ in 0..<2_000 { SignalsTests.raiseHere(SIGHUP) }
                SignalsTests.raiseHere(SIGTERM)
            }
            var hangUps = 0
            var ends = 0
            while hangUps + ends < 2_001 {
                switch try Signals.wait() {
                case .hangUp: hangUps += 1
                case .terminate: ends += 1
                default: Issue.record("no such signal was sent")
                }
            }
            sender.join()
            #expect(ends == 1)
            #expect(try Signals.wait(within: .zero) == nil)
        }
    }

    @Test func `signals that the parent left blocked arrive, and installing twice changes nothing`() async {
        await #expect(processExitsWith: .success) {
            SignalsTests.changeMask(SIG_BLOCK)
            SignalsTests.raiseHere(SIGTERM)
            try Signals.install()
            try Signals.install()
            #expect(try Signals.wait(within: .zero) == .terminate)
            #expect(try Signals.wait(within: .zero) == nil)
        }
    }

    @Test func `a broken pipe and a full file do not end the process`() async {
        await #expect(processExitsWith: .success) {
            try Signals.install()
            SignalsTests.raiseHere(SIGPIPE)
            SignalsTests.raiseHere(SIGXFSZ)
        }
    }

    @Test func `logs, upgrades and wake-ups come after the others`() async {
        await #expect(processExitsWith: .success) {
            try Signals.install()
            Signals.wake()
            for number in [SIGUSR2, SIGUSR1, SIGHUP] { SignalsTests.raiseHere(number) }
            var seen: [Signal?] = []
            for _ in 0..<5 { seen.append(try Signals.wait(within: .zero)) }
            #expect(seen == [.hangUp, .reopenLogs, .upgrade, .woken, nil])
            let waker = try NamedThread(name: "waker") { Signals.wake() }
            #expect(try Signals.wait() == .woken)
            waker.join()
        }
    }

    @Test func `waiting without handlers is an error`() async {
        await #expect(processExitsWith: .success) {
            #expect(throws: ThreadingError.self) { _ = try Signals.wait(within: .zero) }
        }
    }
}
