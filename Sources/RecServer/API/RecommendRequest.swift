import Artifacts
import JSON
import RecCore

/// The body of `POST /recommend`: every field typed and in range, ids still as the caller wrote them.
struct RecommendRequest {
    /// Named maxima of the request; `openapi.yaml` says the same.
    enum Limits {
        static let idBytes = 1...128
        static let history = 4096
        static let session = 256
        static let candidates = 10_000
        static let queryItems = 256
        static let exclude = 10_000
        static let page = 1...500
        static let cursorBytes = 1...256
        static let fields = 64
        static let features = 256
        static let featureValues = 64
        static let weights = 64
        static let deadlineMilliseconds = 1...10_000
        static let tokenBytes = 1...64
        static let time = -1e11...1e11
    }

    /// One event as the caller sends it.
    struct Event {
        let itemID: String
        let action: String?
        let timestamp: Double?
    }

    /// An item to rank, with features of this request alone.
    struct RequestedCandidate {
        let itemID: String
        let features: FeatureValues
    }

    /// Which items of the history are left out of the answer.
    enum ExcludeSeen {
        case none, all
        case matching(actions: [String]?, within: Double?)
    }

    var userID: String?
    var history: [Event]?
    var historyOffset = 0
    var session: [Event] = []
    var now: Double?
    var userFeatures: FeatureValues = [:]
    var contextFeatures: FeatureValues = [:]
    var candidates: [RequestedCandidate]?
    var queryItems: [String] = []
    var count: Int?
    /// Continues a slate; then only `count` is given besides.
    var cursor: String?
    var fields: [String] = ["title"]
    var exclude: [String] = []
    var excludeSeen: ExcludeSeen?
    var filter: ItemFilter?
    var placement: String?
    var weights: [String: Double] = [:]
    /// Nil leaves it to the placement.
    var diversity: Double?
    /// A label or an exact model version; nil leaves the choice to the server.
    var model: String?
    /// Experiment arm; nil leaves it to the hash of the user.
    var variant: String?
    var deadlineMilliseconds: Int?
    var mayDegrade = true
    var explain = false
    /// What must have become durable and seen here before the answer is made.
    var minSequence: SequenceToken?

    /// A request that says nothing.
    init() {}

    /// Decodes a body; an empty one is `{}`.
    /// - Parameter isLenient: ignores fields that no request has.
    init(body: [UInt8], isLenient: Bool = false) throws(Problem) {
        let document: JSONValue
        do {
            document = body.isEmpty ? .object(JSONObject([])) : try JSONParser.parse(body, depthMaximum: 32)
        } catch {
            throw Problem(error)
        }
        try self.init(document, isLenient: isLenient)
    }

    init(_ document: JSONValue, isLenient: Bool = false) throws(Problem) {
        do { try decode(document, isLenient) } catch { throw Problem(error) }
        var unread: [String] = []
        if !isLenient, case .object(let object) = document {
            unread = object.members.map(\.name).filter { !Self.names.contains($0) }
        }
        if !unread.isEmpty {
            throw Problem(
                .unknownField,
                errors: unread.prefix(16).map {
                    .init(pointer: JSONObjectReader.pointer("", $0), detail: "unknown field")
                })
        }
        if cursor != nil, case .object(let object) = document { try Self.checkAlone(object) }
    }

    /// Refuses what a cursor leaves no room for: the slate is what its first request made it.
    private static func checkAlone(_ object: JSONObject) throws(Problem) {
        let others = object.members.filter {
            names.contains($0.name) && !["cursor", "n"].contains($0.name) && $0.value != .null
        }
        guard others.isEmpty else {
            throw Problem(
                .cursorWithFields,
                errors: others.map {
                    .init(pointer: JSONObjectReader.pointer("", $0.name), detail: "a cursor takes only n")
                })
        }
    }

    private static let names: Set<String> = [
        "user_id", "history", "history_offset", "session", "now", "user", "context", "candidates",
        "query_items", "n", "cursor", "fields", "exclude",
        "exclude_seen", "filter", "placement", "weights", "diversity", "model", "variant", "deadline_ms",
        "degrade", "explain", "min_sequence",
    ]

    private mutating func decode(_ document: JSONValue, _ isLenient: Bool) throws(JSONSchemaError) {
        var reader = try JSONObjectReader(document, at: "", isLenient: isLenient)
        userID = try reader.optionalString("user_id", bytes: Limits.idBytes)
        if let events = try reader.optionalArray("history", maximum: Limits.history) {
            history = try Self.events(events, "/history", isLenient)
        }
        historyOffset = try reader.optionalInteger("history_offset", in: 0...1_000_000_000) ?? 0
        if let events = try reader.optionalArray("session", maximum: Limits.session) {
            session = try Self.events(events, "/session", isLenient)
        }
        now = try reader.optionalNumber("now", in: Limits.time)
        if let object = try reader.optionalObject("user") { userFeatures = try Self.features(object) }
        if let object = try reader.optionalObject("context") { contextFeatures = try Self.features(object) }
        if let list = try reader.optionalArray("candidates", maximum: Limits.candidates) {
            candidates = try Self.candidates(list, isLenient)
        }
        queryItems = try Self.ids(&reader, "query_items", maximum: Limits.queryItems) ?? []
        count = try reader.optionalInteger("n", in: candidates == nil ? Limits.page : 1...Limits.candidates)
        cursor = try reader.optionalString("cursor", bytes: Limits.cursorBytes)
        fields = try Self.strings(&reader, "fields", maximum: Limits.fields) ?? fields
        exclude = try Self.ids(&reader, "exclude", maximum: Limits.exclude) ?? []
        excludeSeen = try Self.excludeSeen(&reader)
        if let value = reader.value("filter") {
            filter = try FilterDecoder.decode(value, at: "/filter", isLenient: isLenient)
        }
        if let object = try reader.optionalObject("weights") { weights = try Self.weights(object) }
        placement = try reader.optionalString("placement", bytes: 1...64)
        diversity = try reader.optionalNumber("diversity", in: 0...1)
        model = try Self.label(&reader, "model")
        variant = try Self.label(&reader, "variant")
        deadlineMilliseconds = try reader.optionalInteger("deadline_ms", in: Limits.deadlineMilliseconds)
        if reader.value("degrade") != nil {
            mayDegrade = try reader.choice("degrade", [("allow", true), ("never", false)])
        }
        model = try reader.optionalString("model", bytes: Limits.idBytes)
        explain = try reader.optionalBoolean("explain") ?? false
        if let text = try reader.optionalString("min_sequence", bytes: Limits.tokenBytes) {
            minSequence = SequenceToken(text)
            if minSequence == nil {
                throw JSONSchemaError(.outOfRange, "/min_sequence", "is no token of this server")
            }
        }
    }

    private static func events(
        _ list: [JSONValue], _ pointer: String, _ isLenient: Bool
    ) throws(JSONSchemaError) -> [Event] {
        var events: [Event] = []
        events.reserveCapacity(list.count)
        for (index, value) in list.enumerated() {
            var reader = try JSONObjectReader(value, at: "\(pointer)/\(index)", isLenient: isLenient)
            events.append(
                Event(
                    itemID: try reader.string("item_id", bytes: Limits.idBytes),
                    action: try reader.optionalString("action", bytes: 1...64),
                    timestamp: try reader.optionalNumber("timestamp", in: Limits.time)))
            try reader.finish()
        }
        return events
    }

    private static func candidates(
        _ list: [JSONValue], _ isLenient: Bool
    ) throws(JSONSchemaError) -> [RequestedCandidate] {
        var candidates: [RequestedCandidate] = []
        candidates.reserveCapacity(list.count)
        for (index, value) in list.enumerated() {
            var reader = try JSONObjectReader(value, at: "/candidates/\(index)", isLenient: isLenient)
            let itemID = try reader.string("item_id", bytes: Limits.idBytes)
            let features = try reader.optionalObject("features")
            candidates.append(
                RequestedCandidate(itemID: itemID, features: try features.map(Self.features) ?? [:]))
            try reader.finish()
        }
        return candidates
    }

    private static func excludeSeen(_ reader: inout JSONObjectReader) throws(JSONSchemaError) -> ExcludeSeen?
    {
        switch reader.value("exclude_seen") {
        case nil: return nil
        case .boolean(let all): return all ? .all : ExcludeSeen.none
        case .some(let value):
            var rule = try JSONObjectReader(value, at: "/exclude_seen", isLenient: reader.isLenient)
            let actions = try strings(&rule, "actions", maximum: 256)
            let within = try rule.optionalNumber("within_s", in: 0...1e11)
            try rule.finish()
            return .matching(actions: actions, within: within)
        }
    }

    private static func weights(_ object: JSONObjectReader) throws(JSONSchemaError) -> [String: Double] {
        guard object.object.members.count <= Limits.weights else {
            throw JSONSchemaError(.outOfRange, "/weights", "more than \(Limits.weights) weights")
        }
        var weights: [String: Double] = [:]
        for member in object.object.members {
            weights[member.name] = try JSONObjectReader.number(
                member.value, at: object.pointer(to: member.name), in: -1e6...1e6)
        }
        return weights
    }

    private static func label(_ reader: inout JSONObjectReader, _ name: String) throws(JSONSchemaError)
        -> String?
    {
        guard let text = try reader.optionalString(name, bytes: 1...64) else { return nil }
        guard Manifest.isLabel(text) else {
            throw JSONSchemaError(.outOfRange, reader.pointer(to: name), "expected [A-Za-z0-9._-]{1,64}")
        }
        return text
    }

    private static func strings(_ reader: inout JSONObjectReader, _ name: String, maximum: Int)
        throws(JSONSchemaError) -> [String]?
    {
        try texts(&reader, name, maximum: maximum, bytes: 1...64)
    }

    private static func ids(_ reader: inout JSONObjectReader, _ name: String, maximum: Int)
        throws(JSONSchemaError) -> [String]?
    {
        try texts(&reader, name, maximum: maximum, bytes: Limits.idBytes)
    }

    private static func texts(
        _ reader: inout JSONObjectReader, _ name: String, maximum: Int, bytes: ClosedRange<Int>
    ) throws(JSONSchemaError) -> [String]? {
        guard let list = try reader.optionalArray(name, maximum: maximum) else { return nil }
        var texts: [String] = []
        texts.reserveCapacity(list.count)
        for (index, value) in list.enumerated() {
            texts.append(
                try JSONObjectReader.string(value, at: reader.pointer(to: name) + "/\(index)", bytes: bytes))
        }
        return texts
    }

    /// An object of features: string, number, boolean, null (absent), or an array of strings.
    static func features(_ object: JSONObjectReader) throws(JSONSchemaError) -> FeatureValues {
        guard object.object.members.count <= Limits.features else {
            throw JSONSchemaError(.outOfRange, object.pointer, "more than \(Limits.features) features")
        }
        var features: FeatureValues = [:]
        for member in object.object.members {
            let pointer = object.pointer(to: member.name)
            switch member.value {
            case .null: continue
            case .boolean(let value): features[member.name] = .boolean(value)
            case .integer(let value): features[member.name] = .number(Double(value))
            case .number(let value): features[member.name] = .number(value)
            case .string(let value): features[member.name] = .string(value)
            case .array(let elements):
                guard elements.count <= Limits.featureValues else {
                    throw JSONSchemaError(
                        .outOfRange, pointer, "\(elements.count) elements, at most \(Limits.featureValues)")
                }
                var values: [String] = []
                for (index, element) in elements.enumerated() {
                    values.append(try JSONObjectReader.string(element, at: "\(pointer)/\(index)"))
                }
                features[member.name] = .strings(values)
            case .object:
                throw JSONSchemaError(
                    .wrongType, pointer, "expected a string, number, boolean, null or array, found object")
            }
        }
        return features
    }
}

extension Optional {
    /// `map` with a typed throw.
    func map<Result, E: Error>(_ transform: (Wrapped) throws(E) -> Result) throws(E) -> Result? {
        switch self {
        case .none: nil
        case .some(let value): try transform(value)
        }
    }
}
