import RecCore
import Synchronization
import Testing
import Threading

@testable import UserState

@Suite struct StateWriterTests {
    /// A store whose commits fail while it is told so.
    private final class Faulty: UserStateStore {
        let inner: SQLiteStore
        let isFailing = Lock(false)
        let applications = Lock<[Int]>([])
        /// Held while a commit is to wait.
        let gate = Lock<Latch?>(nil)

        init(_ inner: SQLiteStore) { self.inner = inner }

        func apply(
            _ changes: [UserChange], known: @escaping (String) -> StoredUser?,
            seed: @escaping (String) -> UserSeed?
        ) throws(UserStateError) -> AppliedChanges {
            _ = gate.withLock { $0 }?.wait(within: .seconds(60))
            applications.withLock { $0.append(changes.count) }
            if isFailing.withLock({ $0 }) { throw .unavailable("no space") }
            return try inner.apply(changes, known: known, seed: seed)
        }

        func user(_ id: String) throws(UserStateError) -> StoredUser? { try inner.user(id) }
        func forget() throws(UserStateError) -> Bool { try inner.forget() }
        func age() throws(UserStateError) -> Bool { try inner.age() }
        func current(_ user: StoredUser) -> StoredUser { inner.current(user) }
        var now: Double { inner.now }
        var byteCounts: (database: Int, log: Int) { inner.byteCounts }
        var commit: Int64 { inner.commit }
        func readCommit() throws(UserStateError) -> Int64 { try inner.readCommit() }
        var lock: Int32? { inner.lock }
        var loss: StateLogLoss { inner.loss }
        func pseudonym(of user: String) -> String { inner.pseudonym(of: user) }
        func users(
            after place: Int64?, limit: Int
        ) throws(UserStateError) -> (users: [StoredUser], end: Int64?) {
            try inner.users(after: place, limit: limit)
        }
        var epoch: UInt64 { inner.epoch }
    }

    @Test func `a commit that fails refuses all its changes, and the next one succeeds`() throws {
        let folder = TemporaryFolder()
        let store = Faulty(try SQLiteStore(directory: folder.path))
        let users = try UserStates(store: store)
        defer { users.stop() }
        _ = try users.post("u", event("1", 1))
        let before = try users.user("u")
        store.isFailing.withLock { $0 = true }
        #expect(throws: UserStateError.unavailable("no space")) { try users.post("u", event("2", 2)) }
        #expect(users.counters.failures == 1)
        #expect(users.counters.lastFailure != nil)
        #expect(try users.user("u") == before)
        store.isFailing.withLock { $0 = false }
        _ = try users.post("u", event("2", 2))
        #expect(users.counters.lastFailure == nil)
        #expect(try users.user("u")?.events.map(\.eventID) == ["1", "2"])
    }

    @Test func `changes that wait share a commit, and more than the queue holds are refused`() throws {
        let folder = TemporaryFolder()
        let store = Faulty(try SQLiteStore(directory: folder.path))
        let users = try UserStates(store: store, queueDepth: 8)
        let (gate, first, done) = (Latch(count: 1), Latch(count: 1), Latch(count: 8))
        store.gate.withLock { $0 = gate }
        #expect(users.submit(.append([("u", event("0", 0))])) { _ in first.countDown() })
        while users.counters.waiting > 0 {}
        for number in 1...8 {
            #expect(users.submit(.append([("u", event("\(number)", 1))])) { _ in done.countDown() })
        }
        #expect(!users.submit(.append([("u", event("9", 9))])) { _ in })
        gate.countDown()
        #expect(done.wait(within: .seconds(60)))
        users.stop()
        #expect(store.applications.withLock { $0 } == [1, 8])
        #expect(try users.user("u")?.total == 9)
        #expect(!users.submit(.append([("u", event("9", 9))])) { _ in })
    }

    @Test func `a change that fails by itself takes no other down`() throws {
        let folder = TemporaryFolder()
        let store = try SQLiteStore(directory: folder.path)
        // The table refuses a time that is no number.
        let results = try store.apply(
            [
                .append([("a", event("1", 1))]),
                .append([("a", event("2", 2)), ("b", event("3", 3)), ("c", event("4", .nan))]),
                .append([("b", event("5", 5))]),
            ], known: { _ in nil }, seed: { _ in nil }
        ).outcomes.map { try? $0.get().events.count }
        #expect(results == [1, nil, 1])
        #expect(try store.user("a")?.events.map(\.eventID) == ["1"])
        #expect(try store.user("b")?.events.map(\.eventID) == ["5"])
        #expect(try store.user("c") == nil)
    }

    @Test func `a commit that turns up after it was answered as failed spoils what is cached`() throws {
        let folder = TemporaryFolder()
        let store = try SQLiteStore(directory: folder.path)
        let users = try UserStates(store: store)
        defer { users.stop() }
        _ = try users.post("u", event("1", 1))
        #expect(try users.user("u")?.total == 1)
        let other = try SQLiteConnection(path: folder.path + "/state.db", access: .readWrite)
        other.wait(atMost: 5000)
        try other.execute(
            "UPDATE held SET total = 7, sequence = 50 WHERE kind = 1; UPDATE meta SET value = 50 WHERE name = 'commit'"
        )
        _ = try users.post("v", event("1", 1))
        #expect(try users.user("u")?.total == 7)
    }

    @Test func `who posts alone waits for nobody, and several share a commit at intervals`() {
        var pacer = CommitPacer(interval: 100)
        #expect(pacer.due(changes: 1, events: 1, now: 5000) == nil)
        pacer.begin(changes: 1, now: 5000)
        #expect(pacer.due(changes: 1, events: 1, now: 5010) == nil)
        #expect(pacer.due(changes: 2, events: 2, now: 5010) == 5100)
        pacer.begin(changes: 2, now: 5100)
        #expect(pacer.due(changes: 1, events: 1, now: 5130) == 5200)
        #expect(pacer.due(changes: 1, events: 64, now: 5130) == nil)
        #expect(pacer.due(changes: 1, events: 1, now: 5201) == nil)
    }

    @Test func `two stores cannot have one folder`() throws {
        let folder = TemporaryFolder()
        let store = try SQLiteStore(directory: folder.path)
        #expect(throws: UserStateError.self) { try SQLiteStore(directory: folder.path) }
        #expect(store.epoch != 0)
    }

    @Test func `readers and writers on eight threads: what is acknowledged is read, and nothing goes back`()
        throws
    {
        let folder = TemporaryFolder()
        let users = try UserStates(directory: folder.path, cacheBytes: 100_000)
        let names = (0..<5).map { "user-\($0)" }
        let failures = Atomic<Int>(0)
        let writing = Atomic<Int>(4)
        let threads = try (0..<8).map { number in
            try NamedThread(name: "t\(number)") {
                var totals = [Int](repeating: 0, count: names.count)
                var step = 0
                while number < 4 ? step < 40 : writing.load(ordering: .acquiring) > 0 {
                    step += 1
                    let place = (number + step) % names.count
                    do {
                        if number < 4 {
                            let id = "\(number)-\(step)"
                            _ = try users.post(names[place], event(id, Double(step)))
                            let found = try users.user(names[place])?.events.contains { $0.eventID == id }
                            if found != true { failures.add(1, ordering: .relaxed) }
                        } else {
                            let total = try users.user(names[place])?.total ?? 0
                            if total < totals[place] { failures.add(1, ordering: .relaxed) }
                            totals[place] = total
                        }
                    } catch {
                        failures.add(1, ordering: .relaxed)
                    }
                }
                if number < 4 { writing.subtract(1, ordering: .releasing) }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.load(ordering: .relaxed) == 0)
        #expect(try names.reduce(0) { try $0 + (users.user($1)?.total ?? 0) } == 160)
        users.stop()
    }
}
