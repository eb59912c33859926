import TestSupport
import Testing

@testable import RecServer

@Suite struct ShiftBoundTests {
    struct Page {
        var previous: [Int?]
        var isFixed: [Bool]

        init(_ count: Int, isFixedShare: Int, random: inout SeededRandom) {
            // Pages of other sizes before this one.
            var places = Array(0..<Int.random(in: 0...(count + 3), using: &random)).shuffled(using: &random)
            previous = (0..<count).map { _ in
                Int.random(in: 0..<3, using: &random) == 0 ? nil : places.popLast()
            }
            isFixed = (0..<count).map { _ in Int.random(in: 0..<10, using: &random) < isFixedShare }
        }

        /// Whether nothing that stands in both pages moves more than `limit` places.
        func isWithin(_ limit: Int, _ order: [Int]) -> Bool {
            order.enumerated().allSatisfy { place, item in
                if isFixed[item] { return place == item }
                guard let before = previous[item], before < order.count else { return true }
                return abs(place - before) <= limit
            }
        }
    }

    static func permutations(of items: [Int]) -> [[Int]] {
        guard let first = items.first, items.count > 1 else { return [items] }
        _ = first
        return items.flatMap { item in
            permutations(of: items.filter { $0 != item }).map { [item] + $0 }
        }
    }

    @Test(arguments: [0, 2])
    func `the order is the best from the top of all that hold the bound`(isFixedShare: Int) {
        var random = SeededRandom(21)
        for count in 0...6 {
            let all = Self.permutations(of: Array(0..<count))
            for _ in 0..<(count < 6 ? 150 : 60) {
                let page = Page(count, isFixedShare: isFixedShare, random: &random)
                let limit = Int.random(in: 1...3, using: &random)
                let order = ShiftBound.order(previous: page.previous, isFixed: page.isFixed, limit: limit)
                // Permutations come in the order of their numbers: the first is the best from the top.
                let best = (limit...max(limit, count)).lazy.compactMap { wider in
                    all.first { page.isWithin(wider, $0) }
                }.first
                #expect(order == best ?? [], "\(page) \(limit)")
            }
        }
    }

    @Test func `the bound holds for any change of ranks, also on long pages`() {
        var random = SeededRandom(22)
        for _ in 0..<200 {
            let count = Int.random(in: 1...120, using: &random)
            var page = Page(count, isFixedShare: 0, random: &random)
            let limit = Int.random(in: 1...20, using: &random)
            let order = ShiftBound.order(previous: page.previous, isFixed: page.isFixed, limit: limit)
            #expect(order.sorted() == Array(0..<count) && page.isWithin(limit, order))
            // Nothing known, nothing moved.
            page.previous = page.previous.map { _ in nil }
            #expect(
                ShiftBound.order(previous: page.previous, isFixed: page.isFixed, limit: limit)
                    == Array(0..<count))
        }
    }

    @Test func `an unchanged page stays, pins keep their places`() {
        var random = SeededRandom(23)
        for _ in 0..<50 {
            let count = Int.random(in: 1...30, using: &random)
            let same = ShiftBound.order(
                previous: Array(0..<count), isFixed: [Bool](repeating: false, count: count), limit: 1)
            #expect(same == Array(0..<count))
            let page = Page(count, isFixedShare: 5, random: &random)
            let order = ShiftBound.order(previous: page.previous, isFixed: page.isFixed, limit: 1)
            for place in order.indices where page.isFixed[place] { #expect(order[place] == place) }
            #expect(order.sorted() == Array(0..<count))
        }
    }
}
