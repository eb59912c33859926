import JSON
import RecCore
import TestSupport
import Testing
import Threading
import UserState

@testable import RecServer

@Suite struct SlatesTests {
    let snapshot: Snapshot

    init() throws { snapshot = try SmallBundle.loaded() }

    static let first = 4

    /// A slate of all items but the first four, in an order of its own.
    func slate(
        _ seed: UInt64, user: String? = nil, of snapshot: Snapshot? = nil,
        excludes: RecommendRequest.ExcludeSeen = .all
    ) -> (slate: HeldSlate, ids: [String]) {
        var random = SeededRandom(seed)
        let rows = (Self.first..<SmallBundle.items).shuffled(using: &random)
        let facts = HeldSlate.Facts(
            recommendationID: "r\(seed)", model: "default", modelVersion: "small-1", placement: nil,
            variant: nil, scoreKind: .value, degraded: [], history: .init(), count: Self.first,
            fields: ["title", "year"], seen: .init(excludes: excludes, now: 1000, since: nil))
        let tail = SlateTail(rows.enumerated().map { ($1, Double(100 - $0)) })
        return (
            HeldSlate(facts, user: user, offset: Self.first, snapshot ?? self.snapshot, tail),
            rows.map { "i\($0)" }
        )
    }

    func page(
        _ slates: Slates, _ cursor: String, _ count: Int? = nil, user: String? = nil, now: UInt64 = 1,
        gone: Set<String> = []
    ) -> (page: SlatePage, next: String?)? {
        do throws(Problem) {
            return try slates.page(cursor, count: count, user: user, now: now) { _ in gone }
        } catch {
            #expect(error.kind == .cursorExpired)
            return nil
        }
    }

    func ids(_ page: SlatePage) -> [String] { page.items.map(\.id) }

    // MARK: - Pages

    @Test func `pages of any size, with items consumed meanwhile, repeat and skip nothing`() throws {
        let slates = Slates(byteLimit: 1 << 20, ttlSeconds: 60)
        for seed in 0..<60 as Range<UInt64> {
            var random = SeededRandom(seed)
            let (slate, all) = slate(seed)
            var cursor: String? = slates.add(slate, of: snapshot, now: 1)
            var (shown, gone, dropped, offset) = ([String](), Set<String>(), 0, Self.first)
            while let current = cursor {
                gone.formUnion(all.filter { _ in Int.random(in: 0..<12, using: &random) == 0 })
                if Int.random(in: 0..<9, using: &random) == 0 { slate.turn() }
                let count = Int.random(in: 1...9, using: &random)
                let (page, next) = try #require(self.page(slates, current, count, gone: gone))
                let again = try #require(self.page(slates, current, count, gone: gone))
                #expect(ids(page) == ids(again.page) && next == again.next)
                #expect(page.items.count == count || next == nil)
                #expect(gone.isDisjoint(with: ids(page)) && page.offset == offset)
                offset = page.next ?? 0
                shown += ids(page)
                dropped += page.dropped
                cursor = next
            }
            #expect(Set(shown).count == shown.count && shown.count + dropped == all.count)
            #expect(shown == all.filter(Set(shown).contains))
            #expect(gone.isSuperset(of: Set(all).subtracting(shown)))
        }
        #expect(slates.count == 60 && slates.counters.expired.value == 0)
    }

    @Test func `a slate that has become text has the same pages, and lets the version go`() throws {
        let slates = Slates(byteLimit: 1 << 20, ttlSeconds: 60)
        var own: Snapshot? = try SmallBundle(seed: 2).snapshot()
        weak let version = own
        let (held, all) = slate(3, of: own)
        let cursor = slates.add(held, of: try #require(own), now: 1)
        let before = try #require(page(slates, cursor, 500))
        #expect(ids(before.page) == all && before.next == nil)
        slates.turn(from: try #require(own))
        #expect(slates.byteCount == held.byteCount)
        // A request that still runs on the version makes one more.
        let late = slate(4, of: own)
        let other = slates.add(late.slate, of: try #require(own), now: 1)
        #expect(try [late.slate, held].allSatisfy { !$0.holds(try #require(own)) })
        slates.forget(ObjectIdentifier(try #require(own)))
        own = nil
        #expect(version == nil)
        let after = try #require(page(slates, cursor, 500))
        #expect(
            before.page.encoded(requestID: "x", nextCursor: nil)
                == after.page.encoded(requestID: "x", nextCursor: nil))
        #expect(try ids(#require(page(slates, other, 500)).page) == late.ids)
        #expect(try ids(#require(page(slates, cursor, 3)).page) == Array(all.prefix(3)))
    }

    @Test func `an item is the same on a later page as on the first`() throws {
        let slates = Slates(byteLimit: 1 << 20, ttlSeconds: 60)
        let answer = try RecommendPipeline(snapshot).answer(
            #"{"user_id":"u5","now":1700000000,"n":25,"fields":["title","year","genres"]}"#)
        let begun = try RecommendPipeline(snapshot).answer(
            #"{"user_id":"u5","now":1700000000,"n":3,"fields":["title","year","genres"]}"#)
        let facts = HeldSlate.Facts(
            recommendationID: "r", model: "default", modelVersion: "small-1", placement: nil, variant: nil,
            scoreKind: begun.scoreKind, degraded: [], history: begun.history, count: 3, fields: begun.fields,
            seen: begun.seen)
        let cursor = slates.add(
            HeldSlate(facts, user: nil, offset: 3, snapshot, try #require(begun.tail)), of: snapshot, now: 1)
        let rest = try #require(page(slates, cursor, 22)).page
        #expect(answer.items.prefix(3).map(\.itemID) == begun.items.map(\.itemID))
        for (item, text) in zip(answer.items.dropFirst(3), rest.items) {
            var writer = JSONWriter()
            item.write(to: &writer)
            #expect(writer.bytes == Array(text.text))
        }
        #expect(rest.items.count == 22)
    }

    // MARK: - Cursors

    @Test func `a cursor that was changed anywhere, or is from elsewhere, is expired`() throws {
        let (slates, others) = (
            Slates(byteLimit: 1 << 20, ttlSeconds: 60), Slates(byteLimit: 1 << 20, ttlSeconds: 60)
        )
        let cursor = slates.add(slate(1).slate, of: snapshot, now: 1)
        #expect(page(slates, cursor) != nil && page(others, cursor) == nil)
        let characters = Array(cursor)
        for index in characters.indices {
            for other in "Aa0-_" where other != characters[index] {
                var changed = characters
                changed[index] = other
                #expect(page(slates, String(changed)) == nil)
            }
        }
        for bad in ["", "x", cursor + "A", String(cursor.dropLast()), String(repeating: "é", count: 24)] {
            #expect(page(slates, bad) == nil)
        }
        var random = SeededRandom(5)
        for _ in 0..<5000 {
            let changed = String(decoding: Array(cursor.utf8).mutated(using: &random), as: UTF8.self)
            #expect(changed == cursor || page(slates, changed) == nil, "\(changed)")
        }
    }

    @Test func `only the slate's user, or nobody named, gets its pages`() throws {
        let slates = Slates(byteLimit: 1 << 20, ttlSeconds: 60)
        let mine = slates.add(slate(1, user: "a").slate, of: snapshot, now: 1)
        let nobodys = slates.add(slate(2).slate, of: snapshot, now: 1)
        #expect(page(slates, mine) != nil && page(slates, mine, user: "a") != nil)
        #expect(page(slates, mine, user: "b") == nil && page(slates, nobodys, user: "a") == nil)
    }

    // MARK: - What is held

    @Test func `a slate is held for its time since it was used last`() throws {
        let slates = Slates(byteLimit: 1 << 20, ttlSeconds: 10)
        let second: UInt64 = 1_000_000_000
        let (a, b) = (
            slates.add(slate(1, user: "a").slate, of: snapshot, now: 0),
            slates.add(slate(2).slate, of: snapshot, now: 0)
        )
        #expect(page(slates, a, now: 9 * second) != nil)
        #expect(page(slates, b, now: 10 * second) == nil && page(slates, a, now: 18 * second) != nil)
        // Those whose time is over go when another one comes.
        _ = slates.add(slate(3).slate, of: snapshot, now: 28 * second)
        #expect(slates.count == 1 && page(slates, a, now: 28 * second) == nil)
        #expect(slates.counters.removed[.expired]?.value == 2)
    }

    @Test func `the budget holds, and those used longest ago go first`() throws {
        let one = slate(1).slate.byteCount
        let slates = Slates(byteLimit: 3 * one, ttlSeconds: 60)
        let cursors = (0..<3).map { slates.add(slate($0).slate, of: snapshot, now: 1) }
        #expect(page(slates, cursors[0]) != nil && slates.byteCount == 3 * one)
        _ = slates.add(slate(9).slate, of: snapshot, now: 2)
        #expect(slates.count == 3 && slates.byteCount == 3 * one)
        #expect(page(slates, cursors[1]) == nil && page(slates, cursors[0]) != nil)
        // Text is larger: what was used last is kept.
        slates.turn(from: snapshot)
        #expect(slates.byteCount <= 3 * one && slates.count < 3)
        slates.forget(ObjectIdentifier(snapshot))
        #expect(slates.counters.removed[.budget]?.value == UInt64(4 - slates.count))
    }

    @Test func `a user has so many slates, and can be forgotten`() throws {
        let slates = Slates(byteLimit: 1 << 20, ttlSeconds: 60)
        let cursors = (0...Slates.perUserMaximum).map {
            slates.add(slate(UInt64($0), user: "a").slate, of: snapshot, now: 1)
        }
        let other = slates.add(slate(99, user: "b").slate, of: snapshot, now: 1)
        #expect(page(slates, cursors[0]) == nil && page(slates, cursors[1]) != nil)
        #expect(slates.counters.removed[.user]?.value == 1)
        slates.removeAll(user: "a")
        slates.removeAll(user: "a")
        #expect(slates.count == 1 && page(slates, other) != nil && page(slates, cursors[1]) == nil)
        #expect(slates.counters.removed[.cleared]?.value == UInt64(Slates.perUserMaximum))
        slates.removeAll(user: "b")
        #expect(slates.byteCount == 0)
    }

    @Test func `which events keep items off is the request's rule`() {
        var user = StoredUser(id: "u")
        for (index, action) in ["view", "like", nil].enumerated() {
            user.events.append(
                StoredEvent(
                    itemID: "i\(index)", action: action, time: 800 + 100 * Double(index), eventID: "\(index)")
            )
        }
        func items(_ excludes: RecommendRequest.ExcludeSeen, since: Double? = nil) -> Set<String> {
            HeldSlate.SeenRule(excludes: excludes, now: 1000, since: since).items(of: user)
        }
        #expect(items(.none) == [] && items(.all) == ["i0", "i1", "i2"])
        #expect(items(.matching(actions: ["like", "unknown"], within: nil)) == ["i1", "i2"])
        #expect(items(.matching(actions: nil, within: 100)) == ["i1", "i2"])
        #expect(items(.all, since: 900) == ["i1", "i2"])
        user.hasConsent = false
        #expect(items(.all) == [])
        #expect(HeldSlate.SeenRule(excludes: .all, now: 0, since: nil).items(of: nil) == [])
    }
}
