import Foundation
import RecCore
import Testing
import Threading

@testable import UserState

/// A folder of its own, removed with the object.
final class TemporaryFolder: Sendable {
    let path = FileManager.default.temporaryDirectory.path + "/user-state-" + UUID().uuidString

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The bytes of all files in it. While SQLite has them open in this process, another one must read them:
    /// closing a file gives up SQLite's locks on it.
    var allBytes: Data {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return names.reduce(into: Data()) { all, name in
            let process = Process()
            let pipe = Pipe()
            process.executableURL = URL(fileURLWithPath: "/bin/cat")
            process.arguments = [path + "/" + name]
            process.standardOutput = pipe
            guard (try? process.run()) != nil else { return }
            all += pipe.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
        }
    }

    func contains(_ text: String) -> Bool { allBytes.range(of: Data(text.utf8)) != nil }
}

/// Time that passes when the test says so.
final class TestTime: Sendable {
    private let seconds = Lock((wall: 1_000_000.0, monotonic: 50.0))

    var now: Double { seconds.withLock { $0.wall } }
    func pass(_ interval: Double) {
        seconds.withLock {
            $0.wall += interval
            $0.monotonic += interval
        }
    }
    func leap(_ interval: Double) { seconds.withLock { $0.wall += interval } }
    var clock: StateClock {
        StateClock(
            wall: { self.seconds.withLock { $0.wall } }, monotonic: { self.seconds.withLock { $0.monotonic } }
        )
    }
}

extension UserStates {
    /// Hands a change to the writer and waits for what becomes of it.
    func make(_ change: UserChange) throws -> ChangeOutcome {
        let latch = Latch(count: 1)
        let outcome = Lock<Result<ChangeOutcome, UserStateError>?>(nil)
        let isTaken = submit(change) { result in
            outcome.withLock { $0 = result }
            latch.countDown()
        }
        try #require(isTaken)
        try #require(latch.wait(within: .seconds(120)))
        return try #require(outcome.withLock { $0 }).get()
    }

    func post(_ user: String, _ events: StoredEvent...) throws -> [EventOutcome] {
        try make(.append(events.map { (user, $0) })).events
    }
}

extension SQLiteStore {
    /// Changes without a cache and a thread.
    func make(_ changes: [UserChange]) throws -> [ChangeOutcome] {
        try apply(changes, known: { _ in nil }, seed: { _ in nil }).outcomes.map { try $0.get() }
    }
}

func event(_ id: String, _ time: Double, item: String? = nil) -> StoredEvent {
    StoredEvent(itemID: item ?? "item-" + id, action: "click", time: time, eventID: id)
}
