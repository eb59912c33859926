import TestSupport
import Testing

@testable import RecServer

@Suite struct TokenBucketTests {
    @Test func `a bucket gives its burst at once, then its rate, and says how long to wait`() {
        let clock = ManualClock()
        var bucket = TokenBucket(rate: 2, burst: 3, now: clock.nanoseconds)
        #expect((0..<3).allSatisfy { _ in bucket.take(now: clock.nanoseconds) == nil })
        #expect(bucket.take(now: clock.nanoseconds) == 1)
        clock.advance(by: .milliseconds(499))
        #expect(bucket.take(now: clock.nanoseconds) == 1)
        clock.advance(by: .milliseconds(1))
        #expect(bucket.take(now: clock.nanoseconds) == nil)
        #expect(bucket.take(now: clock.nanoseconds) == 1)
        clock.advance(by: .seconds(3600))
        #expect((0..<3).allSatisfy { _ in bucket.take(now: clock.nanoseconds) == nil })
        #expect(bucket.take(now: clock.nanoseconds) == 1)
    }

    @Test func `a slow bucket asks for the seconds until its next request`() {
        var bucket = TokenBucket(rate: 0.1, burst: 1, now: 0)
        #expect(bucket.take(now: 0) == nil)
        #expect(bucket.take(now: 0) == 10)
        #expect(bucket.take(now: 4_500_000_000) == 6)
        #expect(bucket.take(now: 10_000_000_000) == nil)
    }

    @Test func `who waits as long as told gets through, and no more than the rate ever does`() {
        var random = SeededRandom(4)
        for _ in 0..<50 {
            let rate = Double.random(in: 0.05...20, using: &random)
            let burst = Double.random(in: 1...30, using: &random)
            var bucket = TokenBucket(rate: rate, burst: burst, now: 0)
            var now: UInt64 = 0
            var passed = 0
            for _ in 0..<2000 {
                now += UInt64.random(in: 0...200_000_000, using: &random)
                // A clock that seems to go back, as two threads may see it.
                let seen = now - min(now, UInt64.random(in: 0...1000, using: &random))
                if let wait = bucket.take(now: seen) {
                    #expect(wait >= 1)
                    var later = bucket
                    #expect(later.take(now: now + UInt64(wait) * 1_000_000_000) == nil)
                } else {
                    passed += 1
                }
            }
            #expect(Double(passed) <= burst + Double(now) / 1e9 * rate + 1e-6)
        }
    }

    @Test func `each address has its own bucket`() {
        var buckets = AddressBuckets(rate: 1)
        #expect(buckets.take("a", now: 0) == nil)
        #expect(buckets.take("a", now: 0) == 1)
        #expect(buckets.take("b", now: 0) == nil)
        #expect(buckets.take("a", now: 1_000_000_000) == nil)
    }

    /// Against a list in order of use.
    @Test func `a full table forgets the address that asked least recently`() {
        var random = SeededRandom(5)
        var buckets = AddressBuckets(rate: 1, maximum: 7)
        var twin: [(address: String, bucket: TokenBucket)] = []
        var now: UInt64 = 0
        for _ in 0..<5000 {
            now += UInt64.random(in: 0...300_000_000, using: &random)
            let address = "10.0.0.\(Int.random(in: 0..<12, using: &random))"
            var entry = (address, TokenBucket(rate: 1, burst: 1, now: now))
            if let place = twin.firstIndex(where: { $0.address == address }) {
                entry = twin.remove(at: place)
            } else if twin.count == 7 {
                twin.removeFirst()
            }
            let expected = entry.1.take(now: now)
            twin.append(entry)
            #expect(buckets.take(address, now: now) == expected)
            #expect(buckets.count == twin.count)
        }
    }
}
