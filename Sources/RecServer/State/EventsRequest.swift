import HTTP
import JSON
import UserState

/// The body of `POST /events` taken apart: one event, an array of them, or one a line.
struct EventsRequest {
    /// Named limits of an event; `openapi.yaml` says the same.
    enum Limits {
        static let action = 1...64
        static let position = 0...10_000
        /// Seconds an event may be ahead of the server's clock, as clocks of callers are.
        static let ahead: Double = 300
    }

    /// What one member of the body is, in its place.
    enum Member {
        case event(user: String, StoredEvent)
        /// - line: of the body, from 1, where it has lines.
        case refused(Problem, line: Int?, eventID: String?)
    }

    /// What the body is read against.
    struct Context {
        let headers: RequestHeaders
        /// Events of one body.
        let maximum: Int
        /// Unix seconds.
        let now: Double
        /// Whether events of this item may be kept.
        let accepts: (_ itemID: String) -> Bool
        let newID: () -> String
    }

    /// Whether the body is one event and no list.
    let isSingle: Bool
    let members: [Member]

    /// - Throws: what is wrong with the body as a whole; what is wrong with a member stands in its place.
    init(_ request: HTTPRequest, _ context: Context) throws(Problem) {
        guard !request.body.isEmpty else { throw Problem(.malformedJSON, "the body is empty") }
        switch request.mediaType {
        case "application/json":
            let document: JSONValue
            do throws(JSONSyntaxError) { document = try JSONParser.parse(request.body) } catch {
                throw Problem(error)
            }
            guard case .array(let values) = document else {
                isSingle = true
                members = [Self.member(document, at: "", line: nil, context)]
                return
            }
            try Self.check(count: values.count, "elements", context)
            isSingle = false
            members = values.enumerated().map { Self.member($1, at: "/\($0)", line: nil, context) }
        case ComputeWorker.ndjson:
            var lines = request.body.split(separator: 0x0A, omittingEmptySubsequences: false)
            // The last line's end begins no other.
            if lines.last?.isEmpty ?? false { lines.removeLast() }
            try Self.check(count: lines.count, "lines", context)
            isSingle = false
            members = lines.enumerated().map { Self.member(line: Array($1), $0 + 1, context) }
        default:
            throw Problem(
                .unsupportedMediaType,
                "send Content-Type: application/json, or \(ComputeWorker.ndjson) for one event a line")
        }
    }

    private static func check(count: Int, _ what: String, _ context: Context) throws(Problem) {
        guard count <= context.maximum else {
            throw Problem(
                .outOfRange,
                errors: [.init(pointer: "", detail: "\(count) \(what), at most \(context.maximum)")])
        }
    }

    private static func member(line: [UInt8], _ number: Int, _ context: Context) -> Member {
        let document: JSONValue
        do throws(JSONSyntaxError) { document = try JSONParser.parse(line) } catch {
            let problem = line.isEmpty ? Problem(.malformedJSON, "the line is empty") : Problem(error)
            return .refused(problem, line: number, eventID: nil)
        }
        return member(document, at: "", line: number, context)
    }

    private static func member(
        _ value: JSONValue, at pointer: String, line: Int?, _ context: Context
    ) -> Member {
        do throws(Problem) {
            let (user, event) = try event(value, at: pointer, context)
            return .event(user: user, event)
        } catch {
            // The caller's own id tells it which event this was.
            var eventID: String?
            if case .object(let object) = value, case .string(let id)? = object["event_id"],
                RecommendRequest.Limits.idBytes.contains(id.utf8.count)
            {
                eventID = id
            }
            return .refused(error, line: line, eventID: eventID)
        }
    }

    private static func event(
        _ value: JSONValue, at pointer: String, _ context: Context
    ) throws(Problem) -> (user: String, event: StoredEvent) {
        var (user, event): (String?, StoredEvent)
        do throws(JSONSchemaError) {
            var reader = try JSONObjectReader(value, at: pointer, isLenient: context.headers.isLenient)
            user = try reader.optionalString("user_id", bytes: RecommendRequest.Limits.idBytes)
            event = StoredEvent(
                itemID: try reader.string("item_id", bytes: RecommendRequest.Limits.idBytes),
                action: try reader.optionalString("action", bytes: Limits.action),
                time: try reader.optionalNumber("timestamp", in: RecommendRequest.Limits.time) ?? context.now,
                eventID: try reader.optionalString("event_id", bytes: RecommendRequest.Limits.idBytes)
                    ?? context.newID(),
                value: try reader.optionalNumber(
                    "value", in: -Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude),
                recommendationID: try reader.optionalString(
                    "recommendation_id", bytes: RecommendRequest.Limits.idBytes),
                position: try reader.optionalInteger("position", in: Limits.position))
            if user == nil, context.headers.userID == nil { user = try reader.string("user_id") }
            try reader.finish()
        } catch {
            throw Problem(error)
        }
        let userID = try context.headers.user(or: user, at: pointer)
        guard event.time <= context.now + Limits.ahead else {
            throw Problem(
                .tooNew,
                errors: [
                    .init(
                        pointer: pointer + "/timestamp",
                        detail: "more than \(Int(Limits.ahead)) s after the server's clock")
                ])
        }
        guard context.accepts(event.itemID) else {
            throw Problem(
                .unknownItem, errors: [.init(pointer: pointer + "/item_id", detail: "not in the catalogue")])
        }
        return (userID ?? "", event)
    }
}
