import Synchronization
import Threading

/// The admission rules between the loops, which offer and never wait, and the compute threads.
final class AdmissionQueue<Element: Sendable>: Sendable {
    typealias Entry = WaitingLine<Element>.Entry

    private struct State: Sendable {
        var lines: AdmissionLines<Element>
        var advice = RetryAdvice()
        var isClosed = false
    }

    /// What `take` brings.
    struct Turn: Sendable {
        let taken: AdmissionLines<Element>.Taken?
        /// What has waited too long, to be answered first.
        let stale: [Entry]
    }

    private let state: Lock<State>
    private let isGone: @Sendable (Element) -> Bool
    private let waiting = Atomic<Int>(0)
    private let busy = Atomic<Int>(0)
    private let threads: Int
    /// When the sweeper looks next, and whether it is to end.
    private let sweepAt = Atomic<UInt64>(.max)
    private let sweeper = Lock(false)

    /// - Parameter isGone: whether nobody waits for an element's answer any more.
    init(_ policy: AdmissionPolicy, isGone: @escaping @Sendable (Element) -> Bool) {
        state = Lock(State(lines: AdmissionLines(policy)))
        self.isGone = isGone
        threads = policy.threads
    }

    /// Elements waiting; takes no lock.
    var count: Int { waiting.load(ordering: .relaxed) }

    /// Whether a thread is free, and nothing waits for it; takes no lock.
    var isIdle: Bool { waiting.load(ordering: .relaxed) == 0 && busy.load(ordering: .relaxed) < threads }

    /// The lanes as they are.
    func readings(now: UInt64 = MonotonicClock.nanoseconds) -> (lanes: [LaneReading], relief: StagePlan) {
        state.withLock { state in
            (Lane.allCases.map { state.lines.reading($0, now: now) }, state.lines.relief.plan)
        }
    }

    /// Lets work wait, or refuses it with the seconds after which to come again.
    func offer(_ element: Element, _ work: Work) -> (verdict: AdmissionVerdict, retryAfter: Int) {
        let now = MonotonicClock.nanoseconds
        let result = state.withLock { state -> (AdmissionVerdict, Int) in
            guard !state.isClosed else { return (.closed, 1) }
            let verdict = state.lines.offer(element, work, now: now)
            note(state.lines)
            guard case .admitted = verdict else {
                return (verdict, state.advice.secondsAfterRefusal(now: now))
            }
            state.advice.noteAdmitted(now: now)
            return (verdict, 0)
        }
        guard case .admitted(let expiresAt) = result.0 else { return result }
        state.wakeOne()
        if let expiresAt { wakeSweeper(at: expiresAt) }
        return result
    }

    /// What thread number `thread` is to do next; waits for something. Nil once the queue is closed and
    /// empty.
    func take(thread: Int) -> Turn? {
        state.wait { state -> Turn?? in
            var stale: [Entry] = []
            let taken = state.lines.take(
                thread: thread, now: MonotonicClock.nanoseconds, isGone: isGone, stale: &stale)
            note(state.lines)
            if taken != nil || !stale.isEmpty { return .some(Turn(taken: taken, stale: stale)) }
            return state.isClosed ? .some(nil) : nil
        }
    }

    /// Has a thread's work that is not done wait for its rest.
    func resume(_ element: Element, _ rest: Work, thread: Int) {
        let now = MonotonicClock.nanoseconds
        state.withLock { state in
            state.lines.resume(element, rest, thread: thread, now: now)
            note(state.lines)
        }
        state.wakeOne()
    }

    /// The seconds after which those are to come again whose time ran out while they waited.
    func retryAfter() -> Int {
        state.withLock { $0.advice.secondsAfterRefusal(now: MonotonicClock.nanoseconds) }
    }

    /// Refuses further offers; threads get what is left and then nil.
    func close() {
        state.withLock { $0.isClosed = true }
        state.wakeAll()
        sweeper.withLock { $0 = true }
        sweeper.wakeAll()
    }

    /// What is read without the lock.
    private func note(_ lines: AdmissionLines<Element>) {
        waiting.store(lines.count, ordering: .relaxed)
        busy.store(lines.busyCount, ordering: .relaxed)
    }

    // MARK: Sweeping

    /// 1 ms: nearer expiries are handled together.
    private static var sweepInterval: UInt64 { 1_000_000 }

    /// Hands what has waited too long to `answer`, also while every compute thread is busy; returns once the
    /// queue is closed.
    func sweep(_ answer: ([Entry]) -> Void) {
        while let at = nextSweep() {
            // What is queued from here on and expires earlier than what is found now says so.
            sweepAt.store(.max, ordering: .relaxed)
            var stale: [Entry] = []
            let next = state.withLock { state in
                let next = state.lines.sweep(
                    now: MonotonicClock.nanoseconds, isGone: isGone, stale: &stale)
                note(state.lines)
                return next
            }
            if next != .max { wakeSweeper(at: max(next, at &+ Self.sweepInterval)) }
            if !stale.isEmpty { answer(stale) }
        }
    }

    /// Sleeps until something expires, and says when that was to be; nil once the queue is closed.
    private func nextSweep() -> UInt64? {
        while true {
            let at = sweepAt.load(ordering: .relaxed)
            let isEnded = sweeper.wait(until: at) { isEnded in
                isEnded ? true : sweepAt.load(ordering: .relaxed) < at ? false : nil
            }
            if isEnded == true { return nil }
            if MonotonicClock.nanoseconds >= sweepAt.load(ordering: .relaxed) { return at }
        }
    }

    /// Has the sweeper look at `instant` at the latest.
    private func wakeSweeper(at instant: UInt64) {
        guard instant < sweepAt.load(ordering: .relaxed) else { return }
        sweeper.withLock { _ in
            if instant < sweepAt.load(ordering: .relaxed) { sweepAt.store(instant, ordering: .relaxed) }
        }
        sweeper.wakeAll()
    }
}
