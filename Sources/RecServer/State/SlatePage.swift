import JSON

/// A page behind the first one, before it is written.
struct SlatePage {
    /// One item with its JSON.
    struct Item {
        let id: String
        let score: Double
        let text: ArraySlice<UInt8>
    }

    let facts: HeldSlate.Facts
    /// Whose slate it is.
    let user: String?
    private(set) var items: [Item] = []
    /// Place of the slate of the first item on the page.
    let offset: Int
    /// Items that are left out because the user has had them since.
    private(set) var dropped = 0
    /// Place of the slate where the next page begins; nil at the end.
    private(set) var next: Int?

    /// - Parameters:
    ///   - places: of the items from the page's beginning to the slate's end.
    ///   - breaks: places, ascending, where a page ends though it is not full.
    ///   - slateOffset: place of the slate of the first item.
    ///   - item: what stands at a place; nil when it is to be dropped.
    init(
        _ facts: HeldSlate.Facts, user: String?, _ places: Range<Int>, _ count: Int, breaks: [Int],
        slateOffset: Int,
        item: (Int) -> Item?
    ) {
        self.facts = facts
        self.user = user
        offset = slateOffset + places.lowerBound
        let end = breaks.first { $0 > places.lowerBound }
        var place = places.lowerBound
        while place < places.upperBound {
            let isFull = items.count == count || (place == end && !items.isEmpty)
            if let item = item(place) {
                // What follows the page must be there: a next page is not empty.
                if isFull {
                    next = slateOffset + place
                    return
                }
                items.append(item)
            } else {
                dropped += 1
            }
            place += 1
        }
    }

    /// The page as an answer of its own, for the log.
    var recommendation: Recommendation {
        Recommendation(
            modelVersion: facts.modelVersion, placement: facts.placement, variant: facts.variant,
            scoreKind: facts.scoreKind,
            items: items.map {
                Recommendation.Item(itemID: $0.id, score: $0.score, attributes: [], explanation: nil)
            },
            isShort: false, degraded: facts.degraded, history: facts.history, unknownCandidates: nil,
            unknownQueryItems: [], trace: nil)
    }

    /// The answer.
    /// - Parameter nextCursor: nil at the end.
    func encoded(requestID: String, nextCursor: String?) -> [UInt8] {
        var writer = JSONWriter(capacity: 512 + items.reduce(0) { $0 + $1.text.count })
        writer.beginObject()
        writer.key("recommendation_id")
        writer.value(facts.recommendationID)
        writer.key("request_id")
        writer.value(requestID)
        writer.key("model")
        writer.value(facts.model)
        writer.key("model_version")
        writer.value(facts.modelVersion)
        for case let (key, name?) in [("placement", facts.placement), ("variant", facts.variant)] {
            writer.key(key)
            writer.value(name)
        }
        writer.key("score_kind")
        writer.value(facts.scoreKind.rawValue)
        writer.key("items")
        writer.beginArray()
        for item in items { writer.value(encoded: item.text) }
        writer.endArray()
        writer.key("next_cursor")
        if let nextCursor { writer.value(nextCursor) } else { writer.null() }
        writer.key("dropped")
        writer.value(dropped)
        writer.key("short")
        writer.value(false)
        writer.key("degraded")
        writer.beginArray()
        for step in facts.degraded { writer.value(step.rawValue) }
        writer.endArray()
        facts.history.write(to: &writer)
        writer.endObject()
        return writer.bytes
    }
}
