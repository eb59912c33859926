/// How much may wait, and how long.
struct AdmissionPolicy: Sendable {
    /// Requests that wait at most.
    var capacity: Int
    /// Compute threads.
    var threads: Int
    /// Nanoseconds that a request without a deadline of its own has.
    var deadline: UInt64
    /// Nanoseconds that work may still wait once many requests are refused.
    var target: UInt64
}

/// Why work is not done.
enum AdmissionRefusal: String, CaseIterable, Sendable {
    /// It would wait longer than its deadline allows, or than the lane's limit.
    case wait
    /// As many requests wait as may.
    case full
    /// It waited until there was no time left to answer it.
    case expired
}

/// What became of an offer.
enum AdmissionVerdict: Equatable, Sendable {
    /// - Parameter expiresAt: when its time to wait is over; nil where a thread is free to take it.
    case admitted(expiresAt: UInt64?)
    case refused(AdmissionRefusal)
    /// Nothing is taken any more.
    case closed
}

/// How long those who are refused are to stay away: so long that those who come back are no more than can
/// be served.
struct RetryAdvice: Sendable {
    /// Seconds at most.
    static let maximum = 30
    private static let second: UInt64 = 1_000_000_000

    private var secondEnd: UInt64 = 0
    private var counts = (admitted: 0, refused: 0)
    private var ratio = 1
    private var turn = 0

    mutating func noteAdmitted(now: UInt64) {
        advance(to: now)
        counts.admitted += 1
    }

    /// Whole seconds for `Retry-After`: what was offered in the last second over what was let in, and up to
    /// as much again, so that not all come back at once.
    mutating func secondsAfterRefusal(now: UInt64) -> Int {
        advance(to: now)
        counts.refused += 1
        turn &+= 1
        return min(ratio + turn % (ratio + 1), Self.maximum)
    }

    private mutating func advance(to now: UInt64) {
        guard now >= secondEnd else { return }
        let isRecent = now - secondEnd <= Self.second
        let offered = counts.admitted + counts.refused
        ratio = isRecent ? min(max(1, offered / max(counts.admitted, 1)), Self.maximum) : 1
        secondEnd = now &+ Self.second
        counts = (0, 0)
    }
}
