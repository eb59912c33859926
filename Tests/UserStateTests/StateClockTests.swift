import Testing

@testable import UserState

@Suite struct StateClockTests {
    @Test func `a wall clock that is set back leaves events in their order`() {
        let time = TestTime()
        let clock = time.clock
        var last = clock.stamp
        for leap in [1.0, -1, -31_536_000, 5, -0.5, 63_072_000, -3600] {
            time.leap(leap)
            for _ in 0..<3 {
                time.pass(0.25)
                #expect(clock.stamp > last)
                last = clock.stamp
            }
        }
    }

    @Test func `the stamp follows the wall clock once that has caught up`() {
        let time = TestTime()
        let clock = time.clock
        time.leap(-10)
        time.pass(5)
        #expect(clock.stamp == time.now + 10)
        time.leap(60)
        #expect(clock.stamp == time.now)
    }

    @Test func `a wall clock that leaps ahead ages nothing`() throws {
        let (folder, time) = (TemporaryFolder(), TestTime())
        var limits = UserStateLimits()
        limits.retention = 1000
        let store = try SQLiteStore(directory: folder.path, limits: limits, clock: time.clock)
        _ = try store.make([.append([("u", event("1", time.now))])])
        time.leap(31_536_000)
        _ = try store.age()
        #expect(try store.user("u").map(store.current)?.events.count == 1)
        let again = try store.make([.append([("u", event("1", time.now))])])
        guard case .duplicate = again[0].events[0] else {
            Issue.record("the event was kept twice")
            return
        }
        time.pass(1001)
        #expect(try store.user("u").map(store.current)?.events.count == 0)
        _ = try store.age()
        #expect(try store.user("u")?.events.count == 0)
    }
}
