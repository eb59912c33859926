import Foundation
import RecCore
import TestSupport
import Testing
import Threading

@testable import UserState

@Suite struct ErasureTests {
    /// Lines of `texts` that stand in any file of the folder; another process reads them.
    private func found(_ texts: [String], in folder: TemporaryFolder) throws -> [String] {
        let patterns = folder.path + "-patterns"
        try texts.joined(separator: "\n").write(toFile: patterns, atomically: false, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: patterns) }
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: "/bin/grep")
        process.arguments = ["-rhoaFf", patterns, folder.path]
        process.standardOutput = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: output, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    @Test func `no byte of an erased user is in any file once that is acknowledged`() throws {
        let folder = TemporaryFolder()
        let users = try UserStates(directory: folder.path)
        defer { users.stop() }
        var random = SeededRandom(7)
        let count = 1000
        func marks(_ user: Int) -> [String] {
            ["<u\(user)>", "<i\(user)>", "<e\(user)>", "<f\(user)>", "<r\(user)>"]
        }
        // In no order and of many sizes: pages split and merge.
        func post(_ candidates: [Int]) throws {
            let events = (0..<500).map { _ -> (String, StoredEvent) in
                let user = candidates.randomElement(using: &random) ?? 0
                let padding = String(repeating: "x", count: Int.random(in: 0..<24, using: &random))
                return (
                    "<u\(user)>" + padding,
                    StoredEvent(
                        itemID: "<i\(user)>" + padding,
                        time: Double.random(in: 1e9..<1.001e9, using: &random),
                        eventID: "<e\(user)>\(random.next())", recommendationID: "<r\(user)>" + padding)
                )
            }
            _ = try users.make(.append(events))
        }
        for _ in 0..<40 { try post(Array(0..<count)) }
        var ids: [Int: [String]] = [:]
        for user in 0..<count {
            ids[user] = (0..<24).map { "<u\(user)>" + String(repeating: "x", count: $0) }
        }
        for user in stride(from: 0, to: count, by: 9) {
            for id in ids[user] ?? [] where try users.user(id) != nil {
                _ = try users.make(
                    .update(user: id, features: .replace(["a": .string("<f\(user)>")]), hasConsent: nil))
            }
        }
        #expect(try found(marks(0), in: folder).count > 10)
        let order = (0..<count).shuffled(using: &random)
        for group in 1...6 {
            let some = order[(group - 1) * 20..<group * 20]
            let latch = Latch(count: some.count * 24)
            for id in some.flatMap({ ids[$0] ?? [] }) {
                while !users.submit(.erase(user: id), completion: { _ in latch.countDown() }) {}
            }
            #expect(latch.wait(within: .seconds(120)))
            #expect(Set(try found(some.flatMap(marks), in: folder)) == [])
            // Nor does any come back with what is written later.
            for _ in 0..<3 { try post(Array(order[(group * 20)...])) }
            #expect(Set(try found(order[..<(group * 20)].flatMap(marks), in: folder)) == [])
        }
    }

    @Test func `an erased event is in no file`() throws {
        let folder = TemporaryFolder()
        let users = try UserStates(directory: folder.path)
        defer { users.stop() }
        _ = try users.post("u", event("one", 1, item: "unwanted"), event("two", 2))
        #expect(try users.make(.removeEvent(user: "u", eventID: "one")).isFound)
        #expect(try found(["unwanted"], in: folder) == [])
        #expect(try users.user("u")?.total == 1)
        // It was there: that it comes again changes nothing.
        guard case .duplicate = try users.post("u", event("one", 1))[0] else {
            Issue.record("the event came back")
            return
        }
    }

    @Test func `an erased user stays erased, and comes back without the past`() throws {
        let folder = TemporaryFolder()
        let seed = UserSeed(events: [event("old", 1)], offset: 3)
        var sequence: Int64 = 0
        do {
            let users = try UserStates(directory: folder.path, seed: { _ in seed })
            guard case .stored(let first) = try users.post("u", event("new", 2))[0] else { return }
            #expect(try users.user("u")?.total == 5)
            #expect(try users.make(.erase(user: "u")).isFound)
            #expect(try users.make(.erase(user: "u")).isFound == false)
            #expect(try users.make(.erase(user: "of the bundle alone")).isFound)
            let blank = try #require(try users.user("u"))
            #expect(blank.isErased && blank.events.isEmpty && blank.total == 0 && blank.sequence > first)
            sequence = blank.sequence
            users.stop()
        }
        let users = try UserStates(directory: folder.path, seed: { _ in seed })
        #expect(try users.user("u")?.isErased == true)
        guard case .stored(let later) = try users.post("u", event("new", 2))[0] else { return }
        #expect(later > sequence)
        let back = try #require(try users.user("u"))
        #expect(back.isErased && back.total == 1 && back.events.map(\.eventID) == ["new"])
        users.stop()
    }
}
