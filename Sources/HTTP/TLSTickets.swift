import Threading

/// The keys that seal session tickets: one seals and opens, the one before it still opens.
///
/// They are in memory only and shared by all readings of the certificates; any thread.
final class TLSTickets: Sendable {
    struct Key: Sendable, Equatable {
        /// 16 bytes that stand before the ticket in the clear.
        let name: [UInt8]
        /// 32 bytes each.
        let cipherKey, macKey: [UInt8]
        let madeAt: UInt64
    }

    private struct Keys: Sendable {
        var present: Key?
        var previous: Key?
    }

    /// Nanoseconds for which a key seals; 0 without tickets.
    let interval: UInt64
    private let now: @Sendable () -> UInt64
    private let random: @Sendable (Int) -> [UInt8]
    private let keys = Lock(Keys())

    /// - Parameters:
    ///   - now: monotonic nanoseconds.
    ///   - random: that many secret random bytes.
    init(
        interval: UInt64, now: @escaping @Sendable () -> UInt64, random: @escaping @Sendable (Int) -> [UInt8]
    ) {
        self.interval = interval
        self.now = now
        self.random = random
    }

    /// The key that seals now.
    func sealing() -> Key {
        keys.withLock { keys in
            rotate(&keys)
            if let present = keys.present { return present }
            let key = Key(name: random(16), cipherKey: random(32), macKey: random(32), madeAt: now())
            keys.present = key
            return key
        }
    }

    /// The key of that name, and whether the ticket should be sealed anew.
    func opening(name: [UInt8]) -> (key: Key, isOld: Bool)? {
        keys.withLock { keys in
            rotate(&keys)
            if let key = keys.present, key.name == name { return (key, false) }
            if let key = keys.previous, key.name == name { return (key, true) }
            return nil
        }
    }

    private func rotate(_ keys: inout Keys) {
        let now = now()
        if let key = keys.present, now &- key.madeAt >= interval {
            keys.previous = key
            keys.present = nil
        }
        if let key = keys.previous, now &- key.madeAt >= 2 &* interval { keys.previous = nil }
    }
}
