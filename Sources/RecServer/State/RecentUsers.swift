/// Who has asked lately; a bounded number of users.
struct RecentUsers: Sendable {
    /// Most users; the older half is forgotten at once.
    static let maximum = 65_536

    /// Nanoseconds.
    let lifetime: UInt64
    private var young: [String: UInt64] = [:]
    private var old: [String: UInt64] = [:]

    /// Nobody; a user is forgotten after `lifetime` nanoseconds.
    init(lifetime: UInt64) { self.lifetime = lifetime }

    mutating func note(_ user: String, at now: UInt64) {
        if young.count >= Self.maximum / 2, young[user] == nil {
            old = young
            young = [:]
        }
        young[user] = now
    }

    mutating func remove(_ user: String) {
        young[user] = nil
        old[user] = nil
    }

    func contains(_ user: String, at now: UInt64) -> Bool {
        guard let time = young[user] ?? old[user] else { return false }
        return now &- time <= lifetime || time > now
    }
}
