import Kernels
import RecCore
import Retrieval
import TestSupport
import Testing

@testable import RecServer

@Suite struct SlateTailTests {
    @Test(arguments: [0, 0.3, 1])
    func `page and tail are the order of the whole slate`(diversity: Double) throws {
        let catalog = try SmallBundle.loaded().catalog
        var random = SeededRandom(11)
        for _ in 0..<40 {
            let size = Int.random(in: 0..<120, using: &random)
            var slate = SlateTests.slate(
                (0..<size).map { _ in
                    Int.random(in: 0..<9, using: &random) == 0
                        ? .nan : Float(Int.random(in: 0..<30, using: &random))
                })
            let vectors = SlateTests.vectors(size, seed: UInt64(size) + 1)
            let (count, maximum) = (
                Int.random(in: 1...40, using: &random), Int.random(in: 0...100, using: &random)
            )
            let pins = (0..<Int.random(in: 0...3, using: &random)).map {
                Placement.Pin(position: 7 * $0, row: 5 * $0)
            }.filter { $0.row < size && $0.position < count }
            slate.order(max(count, maximum), diversity: diversity, vectors.view, pins: pins)
            let whole = slate.page
            slate.order(count, diversity: diversity, vectors.view, pins: pins)
            #expect(slate.page == Array(whole.prefix(count)))
            let tail = slate.tail(maximum: maximum, count: count, diversity: diversity, placement: nil)
            let ordered = tail?.ordered(vectors.view, catalog)
            #expect(
                (ordered?.rows ?? []).map(Int.init)
                    == Array(whole.dropFirst(count).prefix(max(0, maximum - count))))
            #expect(ordered?.scores ?? [] == (ordered?.rows ?? []).compactMap { slate.scores[Int($0)] })
            #expect(ordered?.breaks ?? [] == [] && ordered?.rules == nil)
            if maximum <= count || whole.count <= count { #expect(tail == nil) }
        }
    }

    @Test(arguments: [0, 0.5])
    func `caps count anew for every page, and what they keep off one stands on a later one`(
        diversity: Double
    ) throws {
        let snapshot = try PlacementTests.shared.get()
        let placement = try #require(snapshot.placements["caps"])
        var random = SeededRandom(12)
        for count in [1, 3, 4, 6, 9, 40] {
            let scores = (0..<SmallBundle.items).map { _ in Float.random(in: 0...1, using: &random) }
            var slate = SlateTests.slate(scores)
            let vectors = SlateTests.vectors(SmallBundle.items)
            func caps() -> CapCounter? { CapCounter(placement, snapshot.catalog) }
            slate.order(count, diversity: diversity, vectors.view, caps: caps())
            let tail = try #require(
                slate.tail(maximum: 500, count: count, diversity: diversity, placement: placement)
            ).ordered(vectors.view, snapshot.catalog)
            let all = slate.page + tail.rows.map(Int.init)
            #expect(all.sorted() == Array(0..<SmallBundle.items))
            // Pages: full ones, and those that the caps left short.
            var pages: [[Int]] = [slate.page]
            var page: [Int] = []
            for (place, row) in tail.rows.enumerated() {
                if page.count == count || tail.breaks.contains(place) {
                    pages.append(page)
                    page = []
                }
                page.append(Int(row))
            }
            pages.append(page)
            for (number, page) in pages.enumerated() {
                var counter = try #require(caps())
                for row in page {
                    let isAdmitted = counter.admit(row)
                    #expect(isAdmitted)
                }
                // Nothing that a later page has would have been let in.
                guard page.count < count else { continue }
                for row in pages[(number + 1)...].joined() {
                    var full = counter
                    let isAdmitted = full.admit(row)
                    #expect(!isAdmitted)
                }
            }
        }
    }
}
