import Threading

/// A budget of requests that fills with time, up to a burst.
struct TokenBucket: Sendable {
    /// Requests per second, above 0.
    let rate: Double
    /// The most requests at once, at least 1.
    let burst: Double
    private var tokens: Double
    private var updatedAt: UInt64

    /// A full bucket.
    init(rate: Double, burst: Double, now: UInt64) {
        self.rate = rate
        self.burst = burst
        tokens = burst
        updatedAt = now
    }

    /// Takes one request's worth.
    /// - Parameter now: monotonic nanoseconds.
    /// - Returns: nil when there was one, else the seconds after which there is, at least 1.
    mutating func take(now: UInt64) -> Int? {
        // Two threads may read the clock in one order and come here in the other.
        if now > updatedAt {
            tokens = min(burst, tokens + Double(now - updatedAt) / 1e9 * rate)
            updatedAt = now
        }
        if tokens >= 1 {
            tokens -= 1
            return nil
        }
        return max(1, Int(((1 - tokens) / rate).rounded(.up)))
    }
}

/// A bucket for each peer address, for as many as have a place; the one that asked least recently goes.
///
/// An address that comes back gets a full bucket, as if it had been silent.
struct AddressBuckets: Sendable {
    /// Most addresses; some 10 MiB.
    static let addressesMaximum = 65_536

    private struct Slot: Sendable {
        var address: String
        var bucket: TokenBucket
        /// Neighbours in the order of use; -1 at the ends.
        var older: Int
        var newer: Int
    }

    private let rate: Double
    private let maximum: Int
    private var slots: [Slot] = []
    private var places: [String: Int] = [:]
    private var oldest = -1
    private var newest = -1

    /// - Parameter rate: requests per second of each address; the burst is one second's worth.
    init(rate: Double, maximum: Int = addressesMaximum) {
        precondition(rate >= 1 && maximum >= 1, "rate \(rate), at most \(maximum) addresses")
        self.rate = rate
        self.maximum = maximum
    }

    /// Addresses that have a bucket.
    var count: Int { slots.count }

    /// As `TokenBucket.take`, from the address's bucket.
    mutating func take(_ address: String, now: UInt64) -> Int? {
        let place: Int
        if let known = places[address] {
            place = known
            unlink(place)
        } else if slots.count < maximum {
            place = slots.count
            slots.append(
                Slot(
                    address: address, bucket: TokenBucket(rate: rate, burst: rate, now: now), older: -1,
                    newer: -1))
            places[address] = place
        } else {
            place = oldest
            unlink(place)
            places[slots[place].address] = nil
            slots[place].address = address
            slots[place].bucket = TokenBucket(rate: rate, burst: rate, now: now)
            places[address] = place
        }
        append(place)
        return slots[place].bucket.take(now: now)
    }

    private mutating func unlink(_ place: Int) {
        let (older, newer) = (slots[place].older, slots[place].newer)
        if older >= 0 { slots[older].newer = newer } else { oldest = newer }
        if newer >= 0 { slots[newer].older = older } else { newest = older }
    }

    private mutating func append(_ place: Int) {
        slots[place].older = newest
        slots[place].newer = -1
        if newest >= 0 { slots[newest].newer = place } else { oldest = place }
        newest = place
    }
}
