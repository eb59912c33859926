import JSON
import Kernels
import Ranking
import Retrieval
import Threading
import UserState

/// A ranked slate behind its first page, as long as cursors continue it.
///
/// It is held as rows of the version that made it, which it keeps alive; when that version is to go, it
/// becomes text that is ready to be sent.
final class HeldSlate: Sendable {
    /// What every page of the slate says of it.
    struct Facts: Sendable {
        let recommendationID: String
        /// The label that answered, or the version that was asked for by name.
        let model: String
        let modelVersion: String
        let placement: String?
        let variant: String?
        let scoreKind: ScoreKind
        let degraded: [DegradationStep]
        let history: Recommendation.History
        /// Items asked for on the first page.
        let count: Int
        let fields: [String]
        let seen: SeenRule
    }

    /// Which of the user's events keep their items off later pages.
    struct SeenRule: Sendable {
        let excludes: RecommendRequest.ExcludeSeen
        /// Unix seconds: what a time within some seconds counts from.
        let now: Double
        /// Unix seconds: earlier events were known and let through; nil when all that are held were left out.
        let since: Double?

        /// The items of those events.
        func items(of user: StoredUser?) -> Set<String> {
            guard let user, user.hasConsent else { return [] }
            var items: Set<String> = []
            for event in user.events where excludes(event) { items.insert(event.itemID) }
            return items
        }

        private func excludes(_ event: StoredEvent) -> Bool {
            if let since, event.time < since { return false }
            switch excludes {
            case .none: return false
            case .all: return true
            case .matching(let names, let within):
                return names?.contains(event.action ?? "unknown") ?? true
                    && within.map { now - event.time <= $0 } ?? true
            }
        }
    }

    private enum Content: Sendable {
        case rows(Snapshot, SlateTail)
        case text(SlateText)
    }

    let facts: Facts
    let user: String?
    /// Places of the first page.
    let offset: Int
    private let content: Lock<Content>

    /// - Parameter offset: items of the first page.
    init(_ facts: Facts, user: String?, offset: Int, _ snapshot: Snapshot, _ tail: SlateTail) {
        self.facts = facts
        self.user = user
        self.offset = offset
        content = Lock(.rows(snapshot, tail))
    }

    /// Bytes in memory beside the items: this object, its ids, its places in the lists of slates.
    private static let overhead = 640

    /// Bytes that it takes in memory.
    var byteCount: Int {
        content.withLock { content in
            switch content {
            case .rows(_, let tail): Self.overhead + tail.byteCount
            case .text(let text): Self.overhead + text.byteCount
            }
        }
    }

    /// Whether it keeps `snapshot` alive.
    func holds(_ snapshot: Snapshot) -> Bool {
        content.withLock { content in
            if case .rows(let held, _) = content { held === snapshot } else { false }
        }
    }

    /// At most `count` items from place `offset` on, without those that are `gone`; nil when no page begins
    /// there.
    func page(from offset: Int, count: Int, gone: Set<String>) -> SlatePage? {
        let first = offset - self.offset
        switch ordered() {
        case .rows(let snapshot, let tail):
            guard tail.rows.indices.contains(first) else { return nil }
            let catalog = snapshot.catalog
            return SlatePage(
                facts, user: user, first..<tail.rows.count, count, breaks: tail.breaks,
                slateOffset: self.offset
            ) { place in
                let id = catalog.id(Int(tail.rows[place]))
                guard !gone.contains(id) else { return nil }
                return SlatePage.Item(
                    id: id, score: tail.scores[place],
                    text: Self.text(of: place, tail, snapshot, facts.fields))
            }
        case .text(let text):
            guard text.ids.indices.contains(first) else { return nil }
            return SlatePage(
                facts, user: user, first..<text.ids.count, count, breaks: text.breaks,
                slateOffset: self.offset
            ) { place in
                let id = text.ids[place]
                return gone.contains(id)
                    ? nil : SlatePage.Item(id: id, score: text.scores[place], text: text.item(place))
            }
        }
    }

    /// Lets go of the version: from now on the slate is text.
    func turn() {
        guard case .rows(let snapshot, let tail) = ordered() else { return }
        var text = SlateText(scores: tail.scores, breaks: tail.breaks)
        for place in tail.rows.indices {
            text.append(
                snapshot.catalog.id(Int(tail.rows[place])), Self.text(of: place, tail, snapshot, facts.fields)
            )
        }
        content.withLock { $0 = .text(text) }
    }

    /// The content with its rows in their order, which is made when it is first needed.
    private func ordered() -> Content {
        let content = content.withLock { $0 }
        guard case .rows(let snapshot, let tail) = content, tail.rules != nil else { return content }
        // Outside the lock: two threads at once make the same order.
        let ordered = Content.rows(
            snapshot, tail.ordered(snapshot.ranking.itemVectors.view, snapshot.catalog))
        return self.content.withLock { content in
            if case .rows = content { content = ordered }
            return content
        }
    }

    private static func text(
        of place: Int, _ tail: SlateTail, _ snapshot: Snapshot, _ fields: [String]
    ) -> ArraySlice<UInt8> {
        let row = Int(tail.rows[place])
        var writer = JSONWriter(capacity: 128)
        Recommendation.Item(
            itemID: snapshot.catalog.id(row), score: tail.scores[place],
            attributes: fields.compactMap { field in
                snapshot.catalog.attribute(row, field).map { (field, $0) }
            }, explanation: nil
        ).write(to: &writer)
        return writer.bytes[...]
    }
}
