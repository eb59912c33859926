import Testing
import UserState

@Suite struct StoredUserTests {
    @Test func `an event is in what the next read gets`() throws {
        let users = UserStates()
        let event = StoredEvent(itemID: "a", time: 1, eventID: "1")
        #expect(users.submit(.append([("u", event)])) { _ in })
        #expect(try users.user("u")?.events == [event])
        #expect(try users.user("v") == nil)
    }
}
