/// Chained keyed hashes of a history window, one of 128 bits per full block of sixteen events: blocks are
/// equal, and all before them, when their hashes are.
///
/// Keyed with secrets of this process, so that nobody can choose histories that collide; whoever uses the
/// hashes compares the events nevertheless.
struct HistoryFingerprint: Sendable {
    /// One link of the chain.
    struct Digest: Sendable, Hashable {
        var low: UInt64
        var high: UInt64
    }

    private let secret: Digest
    private let mask: UInt64

    /// Hashes under the given secret; with `mask` 0 all of them collide, which is for tests.
    init(secret: Digest, mask: UInt64 = .max) {
        self.secret = secret
        self.mask = mask
    }

    /// Hashes under a secret of their own.
    static func random() -> HistoryFingerprint {
        HistoryFingerprint(
            secret: Digest(low: .random(in: .min ... .max), high: .random(in: .min ... .max)))
    }

    /// The hashes of the window's full blocks of `size` events.
    func digests(_ window: HistoryWindow, size: Int) -> [Digest] {
        var digests: [Digest] = []
        let count = window.count
        digests.reserveCapacity(count / size)
        var link = mix(secret, UInt64(bitPattern: Int64(window.start)), 0)
        for first in stride(from: 0, to: count / size * size, by: size) {
            for i in first..<first + size {
                let row = UInt64(UInt32(truncatingIfNeeded: window.itemRows[i]))
                let action = UInt64(UInt32(truncatingIfNeeded: window.actions[i]))
                link = mix(link, row | action << 32, window.times[i].bitPattern)
            }
            digests.append(Digest(low: link.low & mask, high: link.high & mask))
        }
        return digests
    }

    /// Two wide multiplications, each half of which goes into the other: every bit of the link and of the
    /// words reaches every bit of the result.
    private func mix(_ link: Digest, _ first: UInt64, _ second: UInt64) -> Digest {
        // Odd constants (the fractions of the golden ratio and of √3), against words that are mostly zeros.
        let a = (link.low ^ first ^ secret.high)
            .multipliedFullWidth(by: (link.high &+ second) ^ 0x9E37_79B9_7F4A_7C15)
        let b = (link.high ^ second ^ secret.low)
            .multipliedFullWidth(by: (link.low &+ first) ^ 0xBB67_AE85_84CA_A73B)
        return Digest(low: a.low ^ b.high, high: a.high ^ b.low &+ link.low)
    }
}
