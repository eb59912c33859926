import TestSupport
import Testing

@testable import RecServer

@Suite struct AdmissionLinesTests {
    static let millisecond = AdmissionSimulation.millisecond

    static func policy(
        capacity: Int = 256, threads: Int = 2, deadline: UInt64 = 100, target: UInt64 = 5
    ) -> AdmissionPolicy {
        AdmissionPolicy(
            capacity: capacity, threads: threads, deadline: deadline * millisecond,
            target: target * millisecond)
    }

    /// Lines whose work of `kind` is known to take `cost` nanoseconds, with all threads busy for as long.
    static func busy(
        _ policy: AdmissionPolicy, cost: UInt64 = millisecond, now: UInt64
    ) -> AdmissionLines<Int> {
        var lines = AdmissionLines<Int>(policy)
        for kind in [WorkKind.recommend, .events, .batch, .users, .similar] {
            _ = lines.offer(-1, Work(kind), now: now - cost)
            _ = take(&lines, now: now - cost)
            _ = take(&lines, now: now)
        }
        for thread in 0..<policy.threads {
            _ = lines.offer(-1, Work(.recommend), now: now)
            _ = take(&lines, thread: thread, now: now)
        }
        return lines
    }

    static func take(
        _ lines: inout AdmissionLines<Int>, thread: Int = 0, now: UInt64, gone: Set<Int> = []
    ) -> (element: Int?, relief: StagePlan, stale: [Int]) {
        var stale: [AdmissionLines<Int>.Entry] = []
        let taken = lines.take(thread: thread, now: now, isGone: { gone.contains($0) }, stale: &stale)
        return (taken?.entry.element, taken?.relief ?? .full, stale.map(\.element))
    }

    static func isAdmitted(_ verdict: AdmissionVerdict) -> Bool {
        if case .admitted = verdict { true } else { false }
    }

    @Test func `work for a free thread is let in whatever it costs`() {
        var lines = AdmissionLines<Int>(Self.policy(deadline: 1))
        #expect(lines.offer(1, Work(.recommend), now: 0) == .admitted(expiresAt: nil))
        #expect(Self.take(&lines, now: 0).element == 1)
        // Learned: a second a request.
        #expect(Self.take(&lines, now: 1000 * Self.millisecond).element == nil)
        #expect(lines.offer(2, Work(.recommend), now: 1000 * Self.millisecond) == .admitted(expiresAt: nil))
    }

    @Test func `the wait is the work ahead over the threads, with what they are still doing`() {
        let now = Self.millisecond * 1000
        var lines = Self.busy(Self.policy(threads: 2), now: now)
        #expect(lines.wait(0, now: now) == Self.millisecond)
        #expect(lines.wait(0, now: now + Self.millisecond / 2) == Self.millisecond / 2)
        for request in 0..<6 { _ = lines.offer(request, Work(.recommend), now: now) }
        #expect(lines.wait(0, now: now) == 4 * Self.millisecond)
        // A thread that has overrun its estimate may be free any moment.
        #expect(lines.wait(0, now: now + 5 * Self.millisecond) == 3 * Self.millisecond)
    }

    @Test func `what would wait three quarters of its deadline is refused at once`() {
        let now = Self.millisecond * 1000
        for (deadline, admitted) in [(nil, 74), (100, 74), (20, 14), (5, 2)] as [(UInt64?, Int)] {
            var lines = Self.busy(Self.policy(threads: 1), now: now)
            let work = Work(.recommend, deadline: deadline.map { $0 * Self.millisecond })
            let verdicts = (0..<200).map { lines.offer($0, work, now: now) }
            // One is being done, so the n-th waits n milliseconds.
            #expect(verdicts.count { Self.isAdmitted($0) } == admitted + 1)
            #expect(verdicts.drop { Self.isAdmitted($0) }.allSatisfy { $0 == .refused(.wait) })
        }
    }

    @Test func `no more wait than the capacity, however cheap they are`() {
        var lines = AdmissionLines<Int>(Self.policy(capacity: 3, threads: 1))
        let verdicts = (0..<5).map { lines.offer($0, Work(.recommend), now: 7) }
        #expect(verdicts.map(Self.isAdmitted) == [true, true, true, false, false])
        #expect(verdicts[3] == .refused(.full))
        #expect(lines.count == 3)
    }

    @Test func `first in, first out`() {
        var lines = AdmissionLines<Int>(Self.policy())
        for request in 0..<100 { _ = lines.offer(request, Work(.recommend), now: 0) }
        #expect((0..<100).map { _ in Self.take(&lines, now: 1).element } == Array(0..<100))
        #expect(lines.count == 0 && Self.take(&lines, now: 1).element == nil)
    }

    @Test func `what has waited too long, or has no client, is passed over and handed out`() {
        var lines = AdmissionLines<Int>(Self.policy(threads: 1))
        for request in 0..<4 { _ = lines.offer(request, Work(.recommend), now: 0) }
        _ = lines.offer(4, Work(.recommend), now: 50 * Self.millisecond)
        let early = Self.take(&lines, now: 1, gone: [1])
        #expect(early.element == 0 && early.stale.isEmpty)
        let late = Self.take(&lines, now: 99 * Self.millisecond, gone: [1])
        #expect(late.element == 4 && late.stale == [1, 2, 3])
    }

    @Test func `sweeping finds the same without a thread, and says when to look again`() {
        var lines = AdmissionLines<Int>(Self.policy(threads: 1))
        for request in 0..<4 {
            _ = lines.offer(request, Work(.recommend), now: UInt64(request) * Self.millisecond)
        }
        var stale: [AdmissionLines<Int>.Entry] = []
        let next = lines.sweep(now: 5 * Self.millisecond, isGone: { $0 == 2 }, stale: &stale)
        #expect(stale.map(\.element) == [2] && lines.count == 3)
        // Two milliseconds before the deadline there is still time to say so.
        #expect(next == 98 * Self.millisecond)
        let last = lines.sweep(now: 99 * Self.millisecond, isGone: { _ in false }, stale: &stale)
        #expect(last == 101 * Self.millisecond)
        #expect(stale.map(\.element) == [2, 0, 1])
        #expect(lines.sweep(now: .max, isGone: { _ in false }, stale: &stale) == .max && lines.count == 0)
        #expect(lines.wait(0, now: 0) == 0)
    }

    @Test func `busy lanes share the threads by their weights, a lane alone has all`() {
        let now = Self.millisecond * 1000
        var lines = Self.busy(Self.policy(capacity: 4096, threads: 1, deadline: 10_000), now: now)
        var done: [WorkKind: Int] = [:]
        var time = now
        var element = 0
        for round in 0..<700 {
            for kind in [WorkKind.recommend, .users, .batch] where round < 350 || kind == .batch {
                _ = lines.offer(element, Work(kind), now: time)
                element += 1
            }
            time += Self.millisecond
            var stale: [AdmissionLines<Int>.Entry] = []
            if let taken = lines.take(thread: 0, now: time, isGone: { _ in false }, stale: &stale) {
                done[taken.entry.work.kind, default: 0] += 1
            }
            if round == 349 {
                #expect(abs((done[.recommend] ?? 0) - 200) <= 2)
                #expect(abs((done[.users] ?? 0) - 100) <= 2)
                #expect(abs((done[.batch] ?? 0) - 50) <= 2)
            }
        }
        // Nothing idles while anything waits.
        #expect(done.values.reduce(0, +) == 700)
    }

    @Test func `a lane that was idle begins with no credit and no debt`() {
        let now = Self.millisecond * 1000
        var lines = Self.busy(Self.policy(threads: 1, deadline: 10_000), now: now)
        var time = now
        for request in 0..<200 {
            _ = lines.offer(request, Work(.recommend), now: time)
            time += Self.millisecond
            _ = Self.take(&lines, now: time)
        }
        for request in 0..<50 {
            _ = lines.offer(request, Work(.recommend), now: time)
            _ = lines.offer(1000 + request, Work(.users), now: time)
        }
        let order = (1...15).map { Self.take(&lines, now: time + $0 * Self.millisecond).element ?? -1 }
        #expect((4...6).contains(order.count { $0 >= 1000 }))
    }

    @Test func `a batch that makes room is charged for its turn and waits for its lane's next`() {
        let now = Self.millisecond * 1000
        var lines = AdmissionLines<Int>(Self.policy(threads: 1))
        let whole = Work(.batch, byteCount: 10_000)
        #expect(Self.isAdmitted(lines.offer(1, whole, now: now)))
        #expect(Self.take(&lines, now: now).element == 1)
        _ = lines.offer(2, Work(.recommend), now: now)
        // A quarter in 10 ms.
        let rest = Work(.batch, byteCount: 7436)
        lines.resume(1, rest, thread: 0, now: now + 10 * Self.millisecond)
        #expect(lines.count == 2)
        #expect(lines.costs[WorkKind.batch.rawValue].estimate(rest.units) == 30 * Self.millisecond)
        #expect(Self.take(&lines, now: now + 10 * Self.millisecond).element == 2)
        // It never expires: whoever reads its answer has part of it.
        #expect(Self.take(&lines, now: now + 100_000 * Self.millisecond).element == 1)
        // Others wait no longer than for its turn.
        #expect(lines.wait(0, now: now + 100_000 * Self.millisecond) <= 10 * Self.millisecond)
    }

    @Test func `the limit of a queue that stays long falls to the target, and rises when it is short`() {
        var limit = WaitLimit()
        let target = 5 * Self.millisecond
        var now: UInt64 = 1
        func interval(refused: Bool, wait: UInt64) -> UInt64 {
            limit.advance(to: now, target: target, patience: 75 * Self.millisecond)
            if refused { limit.noteRefusal() }
            limit.noteWait(wait * Self.millisecond)
            now += WaitLimit.interval
            limit.advance(to: now, target: target, patience: 75 * Self.millisecond)
            return limit.value
        }
        #expect(interval(refused: false, wait: 70) == .max)
        #expect(interval(refused: true, wait: 0) == .max)
        let fallen = (0..<6).map { _ in interval(refused: true, wait: 4) }
        #expect(fallen.map { $0 / 10_000 } == [3750, 1875, 937, 500, 500, 500])
        #expect(limit.isHeld)
        let risen = (0..<5).map { _ in interval(refused: true, wait: 1) }
        #expect(risen.map { $0 == .max ? 0 : $0 / 10_000 } == [1000, 2000, 4000, 0, 0])
        _ = interval(refused: true, wait: 4)
        now += 10 * WaitLimit.interval
        limit.advance(to: now, target: target, patience: 75 * Self.millisecond)
        #expect(!limit.isHeld)
    }

    @Test func `relief comes in rungs and goes when the queue is a sixth shorter`() {
        var relief = Relief()
        let plans = [0, 66, 67, 60, 52, 49, 78, 89, 200, 75, 73, 72, 61, 60, 51, 49, 0].map {
            relief.plan(wait: $0, patience: 100).rawValue
        }
        #expect(plans == [0, 0, 1, 1, 1, 0, 2, 3, 3, 3, 3, 2, 1, 1, 1, 0, 0])
    }

    @Test func `the cost of work is learned per unit, and one pause does not spoil it`() {
        var cost = WorkCost()
        #expect(cost.estimate(1000) == 0)
        // The first runs are slow for reasons of their own: the shortest counts.
        for nanoseconds in [100_000, 5000, 2000, 9000, 7000, 2000, 3000, 4000] as [UInt64] {
            cost.learn(nanoseconds: nanoseconds, units: 2)
        }
        #expect(cost.estimate(1) == 1000 && cost.estimate(10) == 10_000)
        cost.learn(nanoseconds: .max, units: 1)
        #expect(cost.perUnit == 1000 + 7000.0 / 16)
        for _ in 0..<200 { cost.learn(nanoseconds: 500, units: 1) }
        #expect((500...501).contains(cost.perUnit))
        for _ in 0..<2000 { cost.learn(nanoseconds: .max, units: 1) }
        #expect(cost.estimate(.max) == 1 << 50)
    }

    @Test func `those who are refused are told to come back at a rate that can be served`() {
        var advice = RetryAdvice()
        let second: UInt64 = 1_000_000_000
        #expect((0..<4).allSatisfy { _ in (1...2).contains(advice.secondsAfterRefusal(now: 5)) })
        for now in 1...10 as ClosedRange<UInt64> {
            for _ in 0..<100 { advice.noteAdmitted(now: now * second) }
            let told = (0..<300).map { _ in advice.secondsAfterRefusal(now: now * second) }
            if now > 1 { #expect(Set(told) == [4, 5, 6, 7, 8]) }
        }
        for _ in 0..<10_000 { _ = advice.secondsAfterRefusal(now: 12 * second) }
        #expect(advice.secondsAfterRefusal(now: 13 * second) == RetryAdvice.maximum)
        // A second without anything: what was is over.
        #expect((1...2).contains(advice.secondsAfterRefusal(now: 100 * second)))
    }
}

@Suite struct DeadlineHintTests {
    @Test(
        arguments: [
            (#"{"deadline_ms":5}"#, 5), (#"{"n":1,"deadline_ms" : 10000 , "x":2}"#, 10_000),
            ("{\"deadline_ms\"\n:\t20\r\n}", 20), (#"{"a":"deadline_ms","deadline_ms":7}"#, 7),
            (#"{"a":"\"deadline_ms\":9","deadline_ms":8}"#, 8), ("{}", nil), ("", nil), (#"""#, nil),
            (#"{"deadline_ms":0}"#, nil), (#"{"deadline_ms":10001}"#, nil), (#"{"deadline_ms":-5}"#, nil),
            (#"{"deadline_ms":99999999999999999999}"#, nil), (#"{"deadline_ms":"5"}"#, nil),
            (#"{"deadline_ms""#, nil), (#"{"deadline_ms":"#, nil), (#"{"deadline_ms":50"#, nil),
            (#"{"deadline_m":5,"xdeadline_ms":6}"#, nil),
        ] as [(String, Int?)])
    func `the deadline is found where the body names one`(body: String, milliseconds: Int?) {
        #expect(
            DeadlineHint.nanoseconds(Array(body.utf8)) == milliseconds.map { UInt64($0) * 1_000_000 })
    }

    @Test func `of a long body the beginning and the end are looked at, whole numbers alone`() {
        let filler = String(repeating: "a", count: 5000)
        let first = #"{"deadline_ms":5,"user_id":"\#(filler)"}"#
        let last = #"{"user_id":"\#(filler)","deadline_ms":6}"#
        let middle = #"{"a":"\#(filler)","deadline_ms":7,"b":"\#(filler)"}"#
        let found = [first, last, middle].map { DeadlineHint.nanoseconds(Array($0.utf8)) }
        #expect(found == [5_000_000, 6_000_000, nil])
        // At every place around the edge: the right deadline or none.
        for count in 980...1040 {
            let text = String(repeating: " ", count: count) + #"{"deadline_ms":1234,"u":"\#(filler)"}"#
            let found = DeadlineHint.nanoseconds(Array(text.utf8))
            #expect(found == nil || found == 1_234_000_000)
        }
    }
}
