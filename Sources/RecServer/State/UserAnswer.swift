import JSON
import UserState

/// All that is held of a user, as `/users/{user_id}` shows it.
struct UserAnswer {
    let user: StoredUser
    /// The store's.
    let epoch: UInt64

    func encoded(requestID: String) -> [UInt8] {
        var writer = JSONWriter(capacity: 256 + 160 * user.events.count)
        writer.beginObject()
        writer.key("request_id")
        writer.value(requestID)
        writer.key("user_id")
        writer.value(user.id)
        writer.key("consent")
        writer.value(user.hasConsent)
        writer.key("features")
        writer.value(user.features)
        writer.key("sequence")
        writer.value(SequenceToken(epoch: epoch, user: user.id, sequence: user.sequence).text)
        writer.key("total")
        writer.value(user.total)
        writer.key("events")
        writer.beginArray()
        for event in user.events {
            writer.beginObject()
            event.writeMembers(to: &writer)
            writer.endObject()
        }
        writer.endArray()
        writer.endObject()
        return writer.bytes
    }
}
