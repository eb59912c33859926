import JSON
import Ranking
import RecCore

/// What `score` means in an answer.
enum ScoreKind: String, Sendable {
    case value, sequence, retrieval, popularity, similarity
}

/// An answer to `POST /recommend`, before it is written.
struct Recommendation {
    /// One item in display order.
    struct Item {
        let itemID: String
        let score: Double
        let attributes: [(name: String, value: FeatureValue)]
        let explanation: Explanation?

        /// Writes the item as an object.
        func write(to writer: inout JSONWriter) {
            writer.beginObject()
            writer.key("item_id")
            writer.value(itemID)
            writer.key("score")
            writer.value(score)
            if !attributes.isEmpty { writer.attributes(attributes) }
            if let explanation { Recommendation.write(explanation, to: &writer) }
            writer.endObject()
        }
    }

    /// How one item came to its place.
    struct Explanation {
        let sources: [String]
        let retrievalScore: Float?
        let sequenceScore: Float?
        let sequenceDot: Float?
        let probabilities: [(task: String, probability: Double)]
        let value: Double?
    }

    /// How the request went, for `explain`.
    struct Trace {
        var stages: [(name: String, count: Int)] = []
        var filtered: [(reason: String, count: Int)] = []
    }

    /// What was known of the user's history.
    struct History {
        var events = 0
        var unknown = 0
        /// How much of it the cache had, and the events that were not computed.
        var cache = HistoryOutcome.none
        var reused = 0

        /// Writes the member `history`.
        func write(to writer: inout JSONWriter) {
            writer.key("history")
            writer.beginObject()
            writer.key("events")
            writer.value(events)
            writer.key("unknown")
            writer.value(unknown)
            writer.key("cache")
            writer.value(cache.rawValue)
            writer.key("reused_tokens")
            writer.value(reused)
            writer.endObject()
        }
    }

    let modelVersion: String
    /// The placement that was used, if any.
    let placement: String?
    /// The experiment arm, if any.
    let variant: String?
    let scoreKind: ScoreKind
    let items: [Item]
    let isShort: Bool
    let degraded: [DegradationStep]
    let history: History
    /// Ids of `candidates` that the catalogue does not have; nil when the request named none.
    let unknownCandidates: [String]?
    /// Ids of `query_items` that the catalogue does not have.
    let unknownQueryItems: [String]
    let trace: Trace?
    /// What follows the items on the slate; nil when nothing does, or when slates are not held.
    var tail: SlateTail?
    /// By which events items are left out of it later.
    var seen = HeldSlate.SeenRule(excludes: .none, now: 0, since: nil)
    /// Attributes that were asked for and that the catalogue has.
    var fields: [String] = []
    /// Items that were asked for.
    var count = 0

    /// - Parameters:
    ///   - model: the label that answered, or the version that was asked for by name.
    ///   - nextCursor: continues the slate.
    func encoded(
        recommendationID: String, requestID: String, model: String = BundleLabel.default.rawValue,
        nextCursor: String? = nil
    ) -> [UInt8] {
        var writer = JSONWriter(capacity: 256 + 128 * items.count)
        writer.beginObject()
        writer.key("recommendation_id")
        writer.value(recommendationID)
        writer.key("request_id")
        writer.value(requestID)
        writer.key("model")
        writer.value(model)
        writer.key("model_version")
        writer.value(modelVersion)
        for case let (key, name?) in [("placement", placement), ("variant", variant)] {
            writer.key(key)
            writer.value(name)
        }
        writer.key("score_kind")
        writer.value(scoreKind.rawValue)
        writer.key("items")
        writer.beginArray()
        for item in items { item.write(to: &writer) }
        writer.endArray()
        writer.key("next_cursor")
        if let nextCursor { writer.value(nextCursor) } else { writer.null() }
        writer.key("short")
        writer.value(isShort)
        writer.key("degraded")
        writer.beginArray()
        for step in degraded { writer.value(step.rawValue) }
        writer.endArray()
        history.write(to: &writer)
        if let unknownCandidates { Self.write(unknownCandidates, as: "unknown_candidates", to: &writer) }
        if !unknownQueryItems.isEmpty {
            Self.write(unknownQueryItems, as: "unknown_query_items", to: &writer)
        }
        if let trace { Self.write(trace, to: &writer) }
        writer.endObject()
        return writer.bytes
    }

    private static func write(_ ids: [String], as key: String, to writer: inout JSONWriter) {
        writer.key(key)
        writer.beginArray()
        for id in ids { writer.value(id) }
        writer.endArray()
    }

    private static func write(_ explanation: Explanation, to writer: inout JSONWriter) {
        writer.key("explain")
        writer.beginObject()
        writer.key("sources")
        writer.beginArray()
        for source in explanation.sources { writer.value(source) }
        writer.endArray()
        if let score = explanation.retrievalScore {
            writer.key("retrieval_score")
            writer.value(score)
        }
        if let score = explanation.sequenceScore {
            writer.key("sequence_score")
            writer.value(score)
        }
        if let dot = explanation.sequenceDot {
            writer.key("sequence_dot")
            writer.value(dot)
        }
        if !explanation.probabilities.isEmpty {
            writer.key("probabilities")
            writer.beginObject()
            for (task, probability) in explanation.probabilities {
                writer.key(task)
                writer.value(probability)
            }
            writer.endObject()
        }
        if let value = explanation.value {
            writer.key("value")
            writer.value(value)
        }
        writer.endObject()
    }

    private static func write(_ trace: Trace, to writer: inout JSONWriter) {
        writer.key("explain")
        writer.beginObject()
        for (key, counts) in [
            ("stages", trace.stages.map { ($0.name, $0.count) }),
            ("filtered", trace.filtered.map { ($0.reason, $0.count) }),
        ] {
            writer.key(key)
            writer.beginObject()
            for (name, count) in counts {
                writer.key(name)
                writer.value(count)
            }
            writer.endObject()
        }
        writer.endObject()
    }
}

/// An answer to `GET /similar/{item_id}`, before it is written.
struct SimilarItems {
    let modelVersion: String
    let placement: String?
    let itemID: String
    let items: [Recommendation.Item]
    let isShort: Bool

    func encoded(requestID: String) -> [UInt8] {
        var writer = JSONWriter(capacity: 256 + 128 * items.count)
        writer.beginObject()
        writer.key("request_id")
        writer.value(requestID)
        writer.key("model_version")
        writer.value(modelVersion)
        if let placement {
            writer.key("placement")
            writer.value(placement)
        }
        writer.key("item_id")
        writer.value(itemID)
        writer.key("score_kind")
        writer.value(ScoreKind.similarity.rawValue)
        writer.key("items")
        writer.beginArray()
        for item in items { item.write(to: &writer) }
        writer.endArray()
        writer.key("short")
        writer.value(isShort)
        writer.endObject()
        return writer.bytes
    }
}

extension JSONWriter {
    /// The member `attributes`.
    fileprivate mutating func attributes(_ attributes: [(name: String, value: FeatureValue)]) {
        key("attributes")
        beginObject()
        for (name, feature) in attributes {
            key(name)
            value(feature)
        }
        endObject()
    }

    /// Features, by name.
    mutating func value(_ features: FeatureValues) {
        beginObject()
        for (name, feature) in features.sorted(by: { $0.key < $1.key }) {
            key(name)
            value(feature)
        }
        endObject()
    }

    private mutating func value(_ feature: FeatureValue) {
        switch feature {
        case .string(let text): value(text)
        case .number(let number): value(number)
        case .boolean(let boolean): value(boolean)
        case .strings(let texts):
            beginArray()
            for text in texts { value(text) }
            endArray()
        }
    }
}
