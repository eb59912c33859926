import Kernels
import RecCore
import TestSupport
import Testing

@testable import Ranking

@Suite struct WindowTests {
    @Test func `the window begins at the smallest multiple of its block that leaves at most N events`() {
        for n in 1...12 {
            for block in 1...n {
                for total in 0...60 {
                    let start = HistoryWindow.start(total: total, maxEvents: n, block: block)
                    let expected = stride(from: 0, through: 200, by: block).first { total - $0 <= n }
                    #expect(start == expected)
                }
            }
        }
    }

    @Test
    func `events left out by the caller count, and a window that would begin among them begins after them`() {
        var window = HistoryWindow(maxEvents: 4, block: 3)
        let history = (0..<5).map { HistoryEvent(row: $0, time: Double($0)) }
        window.fill(history: history, offset: 2)  // 7 in all: start 3
        #expect(window.start == 3 && window.itemRows == [1, 2, 3, 4])
        window.fill(history: Array(history[0..<2]), offset: 9)  // 11 in all: start 9
        #expect(window.start == 9 && window.itemRows == [0, 1])
        // 10 in all: start 6, but nothing before 9 is here.
        window.fill(history: Array(history[0..<1]), offset: 9)
        #expect(window.start == 9 && window.itemRows == [0])
        window.fill(history: [], offset: Int.max)
        #expect(window.count == 0)
        window.fill(history: history, offset: -7)
        #expect(window.itemRows == [3, 4])
    }

    @Test func `a missing time is its predecessor's, leading ones the first known, and none at all is zero`()
    {
        func times(_ times: [Double?], n: Int = 10) -> [Double] {
            var window = HistoryWindow(maxEvents: n, block: 1)
            window.fill(history: times.map { HistoryEvent(row: 0, time: $0) })
            return window.times
        }
        #expect(times([nil, nil, 5, nil, 7, nil]) == [5, 5, 5, 5, 7, 7])
        #expect(times([nil, nil]) == [0, 0])
        #expect(times([3, nil, nil, 9], n: 2) == [3, 9])
        #expect(times([]) == [])
    }

    @Test func `time classes are the formula's at every border and at random`() {
        let buckets = TimeBuckets()
        for border in buckets.thresholds.dropFirst().dropLast() {
            for d in [border.nextDown.nextDown, border.nextDown, border, border.nextUp, border.nextUp.nextUp]
            {
                #expect(Int(buckets.bucket(d)) == TimeBuckets.formula(d))
                #expect(buckets.bucket(-d) == buckets.bucket(d))
            }
        }
        var random = SeededRandom(1)
        for _ in 0..<20_000 {
            let d = Double(
                sign: .plus, exponent: Int.random(in: -3...70, using: &random),
                significand: .random(in: 1..<2, using: &random))
            #expect(Int(buckets.bucket(d)) == TimeBuckets.formula(d))
        }
        #expect(buckets.bucket(0) == 0 && buckets.bucket(1) == 0 && buckets.bucket(1e9) == 68)
        #expect(buckets.bucket(.infinity) == 128 && buckets.bucket(.greatestFiniteMagnitude) == 128)
        _ = buckets.bucket(.nan)
    }

    @Test func `the classes of many times are those of each, whether the times rise or not`() {
        let buckets = TimeBuckets()
        var random = SeededRandom(6)
        for round in 0..<200 {
            var time = 1e9
            var times = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                time += power(10, Double.random(in: -3...9, using: &random)).rounded()
                return time
            }
            if round % 3 == 1 { times.shuffle(using: &random) }
            if round % 5 == 1, !times.isEmpty { times[times.count / 2] = .nan }
            for now in [time, time + 77, time + 1e17, 1e9 - 5, .infinity] {
                var found = [UInt8](repeating: 255, count: times.count + 3)
                buckets.fill(&found, from: 2, times: times, count: times.count, before: now)
                #expect(found == [255, 255] + times.map { buckets.bucket(now - $0) } + [255])
            }
        }
    }
}
