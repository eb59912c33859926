import Glibc
import RecCore
import Synchronization
import Testing
import Threading

@testable import UserState

/// Two processes' worth of user state on one folder, as while one takes over from the other.
@Suite struct SharingTests {
    private static func inherited(_ lock: Int32?) throws -> Int32 { dup(try #require(lock)) }

    @Test func `a lock that was left by its holder opens the folder, and another file's does not`() throws {
        let folder = TemporaryFolder()
        let old = try UserStates(directory: folder.path)
        let other = unsafe open("/dev/null", O_RDONLY)
        #expect(throws: UserStateError.self) {
            try UserStates(directory: folder.path, inheritedLock: other)
        }
        close(other)
        let new = try UserStates(directory: folder.path, inheritedLock: try Self.inherited(old.lock))
        // Nobody else comes in, whichever of the two is left.
        #expect(throws: UserStateError.self) { try UserStates(directory: folder.path) }
        old.stop()
        #expect(throws: UserStateError.self) { try UserStates(directory: folder.path) }
        new.stop()
    }

    @Test func `what either acknowledges the other reads at once, and none is lost`() throws {
        let folder = TemporaryFolder()
        let old = try UserStates(directory: folder.path)
        // In the old one's memory.
        _ = try old.post("u", event("before", 1))
        _ = try old.user("u")
        let new = try UserStates(directory: folder.path, inheritedLock: try Self.inherited(old.lock))
        old.share()
        let failures = Atomic<Int>(0)
        let threads = try [(old, new, "old"), (new, old, "new")].flatMap { writer, reader, name in
            try (0..<2).map { number in
                try NamedThread(name: "\(name)\(number)") {
                    for step in 0..<40 {
                        let id = "\(name)-\(number)-\(step)"
                        do {
                            let change = UserChange.append([("u", event(id, Double(10 + step)))])
                            let outcome = try writer.make(change)
                            let found = try reader.user("u")?.events.contains { $0.eventID == id }
                            if found != true || reader.commit < outcome.commit {
                                failures.add(1, ordering: .relaxed)
                            }
                        } catch {
                            failures.add(1, ordering: .relaxed)
                        }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.load(ordering: .relaxed) == 0)
        old.stop()
        new.own()
        let user = try #require(try new.user("u"))
        #expect(user.events.count == 161 && user.total == 161)
        #expect(Set(user.events.map(\.eventID)).count == 161)
        new.stop()
    }

    @Test func `a wait ends with the other's commit`() throws {
        let folder = TemporaryFolder()
        let old = try UserStates(directory: folder.path)
        let new = try UserStates(directory: folder.path, inheritedLock: try Self.inherited(old.lock))
        old.share()
        let commit = new.commit + 1
        let isReached = Lock(false)
        let waiter = try NamedThread(name: "waiter") {
            let deadline = MonotonicClock.nanoseconds &+ 60_000_000_000
            let reached = new.wait(until: deadline) { new.commit >= commit }
            isReached.withLock { $0 = reached }
        }
        _ = try old.post("u", event("e", 1))
        waiter.join()
        #expect(isReached.withLock { $0 })
        #expect(!new.wait(until: MonotonicClock.nanoseconds &+ 20_000_000) { false })
        old.stop()
        new.stop()
    }

    @Test func `who stays answers from memory again, without what was there before`() throws {
        let folder = TemporaryFolder()
        let old = try UserStates(directory: folder.path)
        _ = try old.post("u", event("1", 1))
        _ = try old.user("u")
        do {
            let new = try UserStates(directory: folder.path, inheritedLock: try Self.inherited(old.lock))
            old.share()
            _ = try new.post("u", event("2", 2))
            new.stop()
        }
        old.own()
        #expect(try old.user("u")?.events.map(\.eventID) == ["1", "2"])
        let hits = old.counters.cacheHits
        #expect(try old.user("u")?.total == 2)
        #expect(old.counters.cacheHits == hits + 1)
        _ = try old.post("u", event("3", 3))
        #expect(try old.user("u")?.total == 3)
        old.stop()
    }
}
