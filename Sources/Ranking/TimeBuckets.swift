internal import Kernels

/// The logarithmic classes of time differences that HSTU's time bias is indexed by (ModelFormat.md §3.4).
///
/// bucket(d) = min(128, trunc(ln(max(1, |d|)) / 0.301)), d in seconds. Found by comparing with the smallest
/// difference of each class, which gives the formula's own answer without a logarithm per pair of events.
struct TimeBuckets: Sendable {
    static let count = 129

    /// The smallest difference of each bucket; ascending, then infinity so that a search always ends.
    let thresholds: [Double]
    /// The bucket of 2^e, for e from 0 up to the first whose bucket is the last.
    private let firstOfExponent: [UInt8]

    init() {
        var thresholds = [0.0]
        for bucket in 1..<Self.count {
            // The estimate is off by the rounding of pow and log only: a few steps to the exact border.
            var border = power(2.718281828459045, Double(bucket) * 0.301)
            while Self.formula(border) >= bucket { border = border.nextDown }
            while Self.formula(border) < bucket { border = border.nextUp }
            thresholds.append(border)
        }
        thresholds.append(.infinity)
        self.thresholds = thresholds
        firstOfExponent = (0..<64).map { UInt8(Self.formula(power(2, Double($0)))) }
    }

    /// The definition, a logarithm each.
    static func formula(_ difference: Double) -> Int {
        let scaled = naturalLogarithm(max(1, difference.magnitude)) / 0.301
        return scaled < 128 ? Int(scaled) : 128
    }

    /// The bucket of a time difference in seconds; NaN and infinity are in the last one.
    func bucket(_ difference: Double) -> UInt8 {
        let size = difference.magnitude
        guard size > 1 else { return 0 }
        let exponent = Int(size.bitPattern >> 52) - 1023
        guard exponent < firstOfExponent.count else { return 128 }
        var bucket = Int(firstOfExponent[exponent])
        while bucket < 128, size >= thresholds[bucket + 1] { bucket += 1 }
        return UInt8(bucket)
    }

    /// Writes bucket(now − times[j]) to buckets[first + j] for the first `count` times.
    ///
    /// The buckets of times that never fall, as usual, never rise: each lasts until its border is passed.
    func fill(_ buckets: inout [UInt8], from first: Int, times: [Double], count: Int, before now: Double) {
        guard count > 0 else { return }
        var target = buckets.mutableSpan
        let times = times.span
        var following = now
        var j = count - 1
        while j >= 0, times[j] <= following {
            let current = bucket(now - times[j])
            let border = thresholds[Int(current) + 1]
            repeat {
                target[first + j] = current
                following = times[j]
                j -= 1
            } while j >= 0 && times[j] <= following && now - times[j] < border
        }
        while j >= 0 {
            target[first + j] = bucket(now - times[j])
            j -= 1
        }
    }
}
