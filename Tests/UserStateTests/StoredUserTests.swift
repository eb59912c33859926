import Foundation
import RecCore
import Testing
import Threading
import UserState

@Suite struct StoredUserTests {
    @Test func `an event is in what the next read gets, also after a restart`() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/user-state-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let event = StoredEvent(itemID: "a", time: 1, eventID: "1")
        do {
            let users = try UserStates(directory: folder)
            let latch = Latch(count: 1)
            #expect(users.submit(.append([("u", event)])) { _ in latch.countDown() })
            #expect(latch.wait(within: .seconds(60)))
            #expect(try users.user("u")?.events == [event])
            #expect(try users.user("v") == nil)
            users.stop()
        }
        let again = try UserStates(directory: folder)
        #expect(try again.user("u")?.events == [event])
        again.stop()
    }
}
