import Kernels
import Ranking
import RecCore
import Retrieval
import Testing
import Threading
import UserState

@testable import RecServer

@Suite struct ShownItemsTests {
    let key = ShownItems.PageKey(placement: "home", model: "default")

    func ignored(_ shown: ShownItems, _ user: String, now: Double) -> Set<String> {
        Set(shown.ignored(by: user, now: now).map(\.id))
    }

    // MARK: - What is remembered

    @Test func `an item that was shown often is ignored until its time is over`() {
        let shown = ShownItems(ignoredAfter: 3, ignoredSeconds: 100)
        for now in [0, 10, 20] as [Double] {
            #expect(ignored(shown, "a", now: now) == [])
            shown.note(["x", "y"], to: "a", nil, now: now)
        }
        shown.note(["y"], to: "a", nil, now: 60)
        #expect(ignored(shown, "a", now: 61) == ["x", "y"] && ignored(shown, "b", now: 61) == [])
        #expect(shown.ignored(by: "a", now: 61).allSatisfy { $0.since == 0 })
        #expect(ignored(shown, "a", now: 119.9) == ["x", "y"])
        #expect(ignored(shown, "a", now: 120) == ["y"] && ignored(shown, "a", now: 160) == [])
        // Counting begins anew.
        shown.note(["x"], to: "a", nil, now: 130)
        #expect(ignored(shown, "a", now: 131) == ["y"])
        shown.remove(user: "a")
        #expect(ignored(shown, "a", now: 131) == [] && shown.usage == (0, 0))
    }

    @Test func `the last page is that of the placement, the model and the session`() {
        let shown = ShownItems(shiftMaximum: 2, sessionSeconds: 50)
        shown.note(["x"], to: "a", key, now: 0)
        shown.note(["y"], to: "a", nil, now: 1)
        #expect(shown.lastPage(of: "a", key, now: 49) == ["x"])
        #expect(shown.lastPage(of: "a", key, now: 50) == [] && shown.lastPage(of: "b", key, now: 1) == [])
        #expect(shown.lastPage(of: "a", .init(placement: nil, model: "default"), now: 1) == [])
        shown.note(["z"], to: "a", key, now: 40)
        #expect(shown.lastPage(of: "a", key, now: 60) == ["z"])
        for place in 0..<ShownItems.pagesMaximum {
            shown.note(["\(place)"], to: "a", .init(placement: "\(place)", model: "default"), now: 61)
        }
        #expect(shown.lastPage(of: "a", key, now: 61) == [])
        #expect(shown.lastPage(of: "a", .init(placement: "0", model: "default"), now: 61) == ["0"])
    }

    @Test func `memory is bounded, by user and in all`() {
        let shown = ShownItems(ignoredAfter: 1, shiftMaximum: 1, byteMaximum: 200_000)
        for page in 0..<200 {
            shown.note((0..<20).map { "i\(page)-\($0)" }, to: "a", key, now: Double(page))
        }
        #expect(shown.ignored(by: "a", now: 200).count <= ShownItems.itemsMaximum)
        #expect(ignored(shown, "a", now: 200).contains("i199-3"))
        for user in 0..<100 { shown.note((0..<50).map { "i\($0)" }, to: "u\(user)", key, now: 200) }
        #expect(shown.usage.bytes <= 200_000 && (10..<100).contains(shown.usage.users))
        #expect(shown.lastPage(of: "u99", key, now: 200).count == 50)
        #expect(shown.lastPage(of: "a", key, now: 200) == [])
        for user in 0..<100 { shown.remove(user: "u\(user)") }
        #expect(shown.usage == (0, 0))
    }

    @Test func `nothing is remembered where nothing is asked for`() {
        let shown = ShownItems()
        shown.note(["x"], to: "a", key, now: 0)
        #expect(!shown.isOn && shown.usage == (0, 0))
        let on = ShownItems(ignoredAfter: 1)
        #expect(Viewer(shown, user: "a", model: "m", hasConsent: true, now: 0) == nil)
        #expect(Viewer(on, user: nil, model: "m", hasConsent: true, now: 0) == nil)
        #expect(Viewer(on, user: "a", model: "m", hasConsent: false, now: 0) == nil)
        #expect(Viewer(on, user: "a", model: "m", hasConsent: true, now: 0) != nil)
    }

    // MARK: - In answers

    func answer(_ text: String, _ viewer: Viewer?) throws -> Recommendation {
        let pipeline = try RecommendPipeline(try SmallBundle.loaded())
        var request = try RecommendRequest(body: Array(text.utf8))
        request.deadlineMilliseconds = 10_000
        let now = MonotonicClock.nanoseconds
        var clock = StageClock(start: now)
        let answer = try pipeline.recommend(request, viewer: viewer, receivedAt: now, clock: &clock)
        viewer?.note(answer)
        return answer
    }

    @Test(arguments: [0, 0.6])
    func `ignored items give way to others, and come back before a page gets short`(diversity: Double) throws
    {
        let shown = ShownItems(ignoredAfter: 2)
        let viewer = try #require(
            Viewer(shown, user: "u6", model: "default", hasConsent: true, now: 1_700_000_000))
        let body = #"{"user_id":"u6","now":1700000000,"n":8,"explain":true,"diversity":\#(diversity)}"#
        let first = try answer(body, viewer).items.map(\.itemID)
        #expect(try answer(body, viewer).items.map(\.itemID) == first)
        let third = try answer(body, viewer)
        #expect(Set(third.items.map(\.itemID)).isDisjoint(with: first) && third.items.count == 8)
        #expect(third.trace?.filtered.first { $0.reason == "ignored" }?.count == 8)
        // 30 candidates: all are on the slate, those that were ignored at its end.
        let tail = try #require(third.tail).ordered(
            SmallBundle.loaded().ranking.itemVectors.view, SmallBundle.loaded().catalog)
        let ids = try tail.rows.map { try SmallBundle.loaded().catalog.id(Int($0)) }
        #expect(ids.count == 22 && Set(ids.suffix(8)) == Set(first))
        let all = try answer(body.replacing("\"n\":8", with: "\"n\":30"), viewer)
        #expect(all.items.count == 30 && !all.isShort && Set(all.items.suffix(8).map(\.itemID)) == Set(first))
        // An event on an item since then, here of the session, brings it back.
        let acted = try answer(
            body.replacing(
                "\"n\":8",
                with: #""n":8,"exclude_seen":false,"session":[{"item_id":"\#(first[0])"}]"#), viewer)
        #expect(acted.trace?.filtered.first { $0.reason == "ignored" }.map { $0.count > 0 } ?? false)
    }

    @Test func `items stay near the places they had on the page before`() throws {
        let shown = ShownItems(shiftMaximum: 2)
        let viewer = try #require(Viewer(shown, user: "u6", model: "default", hasConsent: true, now: 10))
        func body(_ more: String) -> String { #"{"user_id":"u6","now":1700000000,"n":20\#(more)}"# }
        var before = try answer(body(""), viewer).items.map(\.itemID)
        #expect(try answer(body(""), nil).items.map(\.itemID) == before)
        for session in ["i1", "i2", "i3", "i4"] {
            let more = #","session":[{"item_id":"\#(session)","action":"like"}],"weights":{"view":-1}"#
            let free = try answer(body(more), nil).items.map(\.itemID)
            let page = try answer(body(more), viewer).items.map(\.itemID)
            #expect(Set(page) == Set(free))
            for (place, item) in page.enumerated() {
                if let old = before.firstIndex(of: item) { #expect(abs(place - old) <= 2) }
            }
            before = page
        }
    }
}
