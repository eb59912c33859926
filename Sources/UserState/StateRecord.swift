public import JSON
public import RecCore

/// One line of an export of the user state, and of what is imported.
///
/// A user's line comes before the events of that user.
public enum StateRecord: Sendable, Equatable {
    /// A user without the events.
    case user(KeptUser)
    /// An event of a user.
    case event(user: String, StoredEvent)

    /// What is held of a user besides events.
    public struct KeptUser: Sendable, Equatable {
        /// The user's id.
        public var id: String
        /// Nil leaves those that are there.
        public var features: FeatureValues?
        /// Nil leaves it.
        public var hasConsent: Bool?
        /// Events of the whole history, also those that are no longer kept; nil counts those that come.
        public var total: Int?
        /// Whether the user was erased once, before what is held now.
        public var isErased: Bool

        /// A user of whom nothing but the id is said unless given.
        public init(
            id: String, features: FeatureValues? = nil, hasConsent: Bool? = nil, total: Int? = nil,
            isErased: Bool = false
        ) {
            self.id = id
            self.features = features
            self.hasConsent = hasConsent
            self.total = total
            self.isErased = isErased
        }
    }

    /// Bytes of the longest line that is read: far more than the limits of features allow to be written.
    public static let lineMaximum = 4_194_304

    private enum Limits {
        static let id = 1...128
        static let action = 1...64
        static let time = -1e11...1e11
        static let position = 0...Int(Int32.max)
        static let total = 0...Int(Int64.max / 2)
    }

    /// Why a line is no record: nothing of its values is in it.
    public struct Malformed: Error, Equatable, CustomStringConvertible {
        /// What was expected, and where.
        public let description: String
    }

    /// Reads a line without its end; strict: what is not known is refused.
    public init(line: [UInt8]) throws(Malformed) {
        let document: JSONValue
        do throws(JSONSyntaxError) { document = try JSONParser.parse(line) } catch {
            throw Malformed(description: error.description)
        }
        do throws(JSONSchemaError) {
            var reader = try JSONObjectReader(document, at: "")
            let isUser = try reader.choice("type", [("user", true), ("event", false)])
            let user = try reader.string("user_id", bytes: Limits.id)
            self = isUser ? .user(try Self.user(user, &reader)) : .event(user: user, try Self.event(&reader))
            try reader.finish()
        } catch {
            throw Malformed(description: error.description)
        }
    }

    private static func user(
        _ id: String, _ reader: inout JSONObjectReader
    ) throws(JSONSchemaError) -> KeptUser {
        var features: FeatureValues?
        if let object = try reader.optionalObject("features") {
            features = FeatureText.features(object.object)
            guard features != nil else {
                throw JSONSchemaError(
                    .wrongType, object.pointer, "expected strings, numbers, booleans and arrays of strings")
            }
        }
        return KeptUser(
            id: id, features: features, hasConsent: try reader.optionalBoolean("consent"),
            total: try reader.optionalInteger("total", in: Limits.total),
            isErased: try reader.optionalBoolean("erased") ?? false)
    }

    private static func event(_ reader: inout JSONObjectReader) throws(JSONSchemaError) -> StoredEvent {
        StoredEvent(
            itemID: try reader.string("item_id", bytes: Limits.id),
            action: try reader.optionalString("action", bytes: Limits.action),
            time: try reader.required("timestamp", reader.optionalNumber("timestamp", in: Limits.time)),
            eventID: try reader.string("event_id", bytes: Limits.id),
            value: try reader.optionalNumber(
                "value", in: -Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude),
            recommendationID: try reader.optionalString("recommendation_id", bytes: Limits.id),
            position: try reader.optionalInteger("position", in: Limits.position))
    }

    /// The line with its end; what `init(line:)` reads as the same record, always the same bytes for it.
    public var line: [UInt8] {
        var writer = JSONWriter(capacity: 256)
        writer.beginObject()
        writer.key("type")
        switch self {
        case .user(let user): Self.write(user, to: &writer)
        case .event(let user, let event): Self.write(event, of: user, to: &writer)
        }
        writer.endObject()
        return writer.bytes + [0x0A]
    }

    private static func write(_ user: KeptUser, to writer: inout JSONWriter) {
        writer.value("user")
        writer.key("user_id")
        writer.value(user.id)
        if let features = user.features {
            writer.key("features")
            FeatureText.write(features, to: &writer)
        }
        if let hasConsent = user.hasConsent {
            writer.key("consent")
            writer.value(hasConsent)
        }
        if let total = user.total {
            writer.key("total")
            writer.value(total)
        }
        if user.isErased {
            writer.key("erased")
            writer.value(true)
        }
    }

    private static func write(_ event: StoredEvent, of user: String, to writer: inout JSONWriter) {
        writer.value("event")
        writer.key("user_id")
        writer.value(user)
        event.writeMembers(to: &writer)
    }
}

extension StoredEvent {
    /// Writes the event as members of the object that is open.
    public func writeMembers(to writer: inout JSONWriter) {
        writer.key("item_id")
        writer.value(itemID)
        if let action {
            writer.key("action")
            writer.value(action)
        }
        writer.key("timestamp")
        writer.value(time)
        writer.key("event_id")
        writer.value(eventID)
        if let value {
            writer.key("value")
            writer.value(value)
        }
        if let recommendationID {
            writer.key("recommendation_id")
            writer.value(recommendationID)
        }
        if let position {
            writer.key("position")
            writer.value(position)
        }
    }
}
