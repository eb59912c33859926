import TestSupport
import Testing

@testable import HTTP

struct TimersTests {
    @Test func `an entry never comes early and at most two ticks late`() {
        var random = SplitMix(state: 7)
        let clock = ManualClock()
        let timers = Timers(now: clock.nanoseconds)
        var deadlines: [UInt64: UInt64] = [:]
        var expired: [Timers.Entry] = []
        for key in UInt64(0)..<500 {
            let deadline = clock.nanoseconds + random.next() % 16_000_000_000
            deadlines[key] = deadline
            _ = timers.set(key, deadline: deadline)
        }
        while let pause = timers.millisecondsUntilNext(now: clock.nanoseconds) {
            clock.advance(by: .milliseconds(pause))
            expired.removeAll()
            timers.advance(to: clock.nanoseconds, into: &expired)
            for entry in expired {
                let deadline = deadlines.removeValue(forKey: entry.key) ?? .max
                #expect(deadline <= clock.nanoseconds)
                #expect(clock.nanoseconds &- deadline < 36_000_000)
            }
        }
        #expect(deadlines.isEmpty)
    }

    @Test func `a deadline beyond the horizon comes early as an entry`() {
        let timers = Timers(now: 0)
        let tick = timers.set(1, deadline: 3_600_000_000_000)
        var expired: [Timers.Entry] = []
        timers.advance(to: 20_000_000_000, into: &expired)
        #expect(expired == [Timers.Entry(key: 1, tick: tick)])
        #expect(timers.millisecondsUntilNext(now: 20_000_000_000) == nil)
    }

    @Test func `a long sleep loses nothing`() {
        let timers = Timers(now: 0)
        for key in UInt64(0)..<100 { _ = timers.set(key, deadline: key * 150_000_000) }
        var expired: [Timers.Entry] = []
        timers.advance(to: 1_000_000_000_000, into: &expired)
        #expect(Set(expired.map(\.key)) == Set(0..<100))
    }
}
