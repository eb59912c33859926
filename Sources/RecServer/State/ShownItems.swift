import Threading

/// What users were shown lately: their last pages, and how often each item with nothing done about it.
///
/// In memory only, within named maxima; those whose user was here longest ago go first. All calls from any
/// thread; times are Unix seconds of the server's clock.
final class ShownItems: Sendable {
    /// Most bytes of all users together.
    static let byteMaximum = 64 << 20
    /// Items counted of one user; the one shown longest ago goes.
    static let itemsMaximum = 1000
    /// Last pages of one user, by placement and model.
    static let pagesMaximum = 4

    /// Which answers follow each other: those of one placement and model label.
    struct PageKey: Hashable, Sendable {
        let placement: String?
        let model: String
    }

    /// How often an item was shown, each time within the time to live of the one before.
    struct Showings: Sendable, Equatable {
        var count = 0
        var first: Double
        var last: Double
    }

    private struct Page: Sendable {
        let key: PageKey
        let ids: [String]
        let time: Double
    }

    private struct Shown: Sendable {
        /// The newest last.
        var pages: [Page] = []
        var items: [String: Showings] = [:]

        /// Ids of more than 15 bytes are allocations of their own, and page and count share them.
        var byteCount: Int { 256 + pages.reduce(0) { $0 + 96 + 48 * $1.ids.count } + 96 * items.count }
    }

    private struct State: Sendable {
        var users = RecencyMap<String, Shown>()
        var byteCount = 0
    }

    let ignoredAfter: Int
    let ignoredSeconds: Double
    let shiftMaximum: Int
    let sessionSeconds: Double
    private let byteMaximum: Int
    private let state = Lock(State())

    /// - Parameters:
    ///   - ignoredAfter: showings after which an item is left out; 0 counts none.
    ///   - shiftMaximum: most places that an item moves from page to page; 0 keeps none.
    init(
        ignoredAfter: Int = 0, ignoredSeconds: Int = 86_400, shiftMaximum: Int = 0,
        sessionSeconds: Int = 1800,
        byteMaximum: Int = ShownItems.byteMaximum
    ) {
        self.ignoredAfter = ignoredAfter
        self.ignoredSeconds = Double(ignoredSeconds)
        self.shiftMaximum = shiftMaximum
        self.sessionSeconds = Double(sessionSeconds)
        self.byteMaximum = byteMaximum
    }

    /// Whether anything is to be remembered.
    var isOn: Bool { ignoredAfter > 0 || shiftMaximum > 0 }
    /// Bytes in memory, and users.
    var usage: (bytes: Int, users: Int) { state.withLock { ($0.byteCount, $0.users.count) } }

    /// The user's last page under `key`, if their session goes on.
    func lastPage(of user: String, _ key: PageKey, now: Double) -> [String] {
        guard shiftMaximum > 0 else { return [] }
        let page = state.withLock { $0.users[peek: user]?.pages.last { $0.key == key } }
        guard let page, now - page.time < sessionSeconds else { return [] }
        return page.ids
    }

    /// Items that were shown to the user so often that they are left out, with the time of the first showing:
    /// an event on one since then says that it was not ignored.
    func ignored(by user: String, now: Double) -> [(id: String, since: Double)] {
        guard ignoredAfter > 0 else { return [] }
        let items = state.withLock { $0.users[peek: user]?.items ?? [:] }
        return items.compactMap { id, showings in
            showings.count >= ignoredAfter && now - showings.last < ignoredSeconds
                ? (id, showings.first) : nil
        }
    }

    /// Forgets everything.
    func removeAll() {
        state.withLock { state in
            while let last = state.users.last {
                state.users.remove(last.key)
                state.byteCount -= last.value.byteCount
            }
        }
    }

    /// Remembers items that were sent to the user.
    /// - Parameter key: of a first page, which the next one is to be near; nil for one behind it.
    func note(_ ids: [String], to user: String, _ key: PageKey?, now: Double) {
        guard isOn else { return }
        state.withLock { state in
            var shown = state.users[peek: user] ?? Shown()
            let before = state.users[peek: user]?.byteCount ?? 0
            if shiftMaximum > 0, let key {
                shown.pages.removeAll { $0.key == key || now - $0.time >= sessionSeconds }
                if shown.pages.count >= Self.pagesMaximum { shown.pages.removeFirst() }
                shown.pages.append(Page(key: key, ids: ids, time: now))
            }
            if ignoredAfter > 0 { count(ids, now, &shown.items) }
            state.users.set(user, shown)
            state.byteCount += shown.byteCount - before
            while state.byteCount > byteMaximum, let last = state.users.last {
                state.users.remove(last.key)
                state.byteCount -= last.value.byteCount
            }
        }
    }

    private func count(_ ids: [String], _ now: Double, _ items: inout [String: Showings]) {
        for id in ids {
            var showings = items[id] ?? Showings(first: now, last: now)
            if now - showings.last >= ignoredSeconds { showings = Showings(first: now, last: now) }
            showings.count += 1
            showings.last = now
            items[id] = showings
        }
        guard items.count > Self.itemsMaximum else { return }
        // Down to nine tenths, so that not every page sorts them.
        let kept = items.sorted { ($0.value.last, $0.key) > ($1.value.last, $1.key) }
            .prefix(Self.itemsMaximum * 9 / 10)
        items = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
    }

    /// Forgets a user.
    func remove(user: String) {
        state.withLock { state in
            if let shown = state.users.remove(user) { state.byteCount -= shown.byteCount }
        }
    }
}

/// What the user of one request was shown lately.
struct Viewer {
    let shown: ShownItems
    let user: String
    /// The label that answers, or the version that was asked for by name.
    let model: String
    let now: Double

    /// Nil where nothing is remembered: of nobody, and of a user who does not consent.
    init?(_ shown: ShownItems, user: String?, model: String, hasConsent: Bool, now: Double) {
        guard shown.isOn, let user, hasConsent else { return nil }
        self.shown = shown
        self.user = user
        self.model = model
        self.now = now
    }

    /// The ids of the last page in this placement.
    func lastPage(_ placement: String?) -> [String] {
        shown.lastPage(of: user, .init(placement: placement, model: model), now: now)
    }

    /// Items to be left out while there are others, and since when an event on one speaks against it.
    var ignored: [(id: String, since: Double)] { shown.ignored(by: user, now: now) }

    /// Remembers a first page.
    func note(_ recommendation: Recommendation) {
        shown.note(
            recommendation.items.map(\.itemID), to: user,
            .init(placement: recommendation.placement, model: model), now: now)
    }
}
