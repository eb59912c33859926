internal import RecCore
internal import Threading

/// Users in memory, bounded by bytes; also those of whom nothing is known.
///
/// Only the writer knows what is newest: what a reader has fetched is taken only if no commit has touched the
/// user since the reader began.
final class StateCache: Sendable {
    /// What the cache says of a user.
    enum Found {
        case user(StoredUser?)
        /// To be read, then handed to `fill`.
        case missing(ticket: UInt64)
    }

    private let shards: [Lock<CacheShard>]

    /// 64: more shards than threads that read.
    private static let shardCount = 64

    /// A cache of at most about `byteCount` bytes; 0 keeps nothing.
    init(byteCount: Int) {
        shards = (0..<Self.shardCount).map { _ in
            Lock(CacheShard(byteCount: byteCount / Self.shardCount))
        }
    }

    private func shard(_ key: ExactString) -> Lock<CacheShard> {
        shards[Int(truncatingIfNeeded: UInt(bitPattern: key.hashValue) % UInt(shards.count))]
    }

    /// A user as the last commit left it.
    func find(_ id: String) -> Found {
        let key = ExactString(id)
        return shard(key).withLock { $0.find(key) }
    }

    /// A user if it is here; for the writer, which counts as no use.
    func peek(_ id: String) -> StoredUser? {
        let key = ExactString(id)
        return shard(key).withLock { $0.peek(key) }
    }

    /// What a reader has found after `find` gave it the ticket.
    func fill(_ id: String, _ user: StoredUser?, ticket: UInt64) {
        let key = ExactString(id)
        let bytes = Self.byteCount(key, user)
        shard(key).withLock { $0.fill(key, user, bytes: bytes, ticket: ticket) }
    }

    /// The reader with the ticket has found nothing.
    func giveUp(_ id: String, ticket: UInt64) {
        let key = ExactString(id)
        shard(key).withLock { $0.giveUp(ticket) }
    }

    /// A commit has changed a user; nil for `user` when it must be read.
    func replace(_ id: String, _ user: StoredUser?) {
        let key = ExactString(id)
        let bytes = Self.byteCount(key, user)
        shard(key).withLock { $0.replace(key, user, bytes: bytes) }
    }

    /// Nothing that is known can be relied upon.
    func removeAll() { for shard in shards { shard.withLock { $0.removeAll() } } }

    /// Hits, misses, users and bytes.
    var counters: CacheCounters {
        var sum = CacheCounters()
        for shard in shards {
            let part = shard.withLock { $0.counters }
            sum.hits += part.hits
            sum.misses += part.misses
            sum.users += part.users
            sum.bytes += part.bytes
        }
        return sum
    }

    /// About what a user takes: strings of more than 15 bytes are blocks of their own.
    static func byteCount(_ key: ExactString, _ user: StoredUser?) -> Int {
        func block(_ text: String?) -> Int {
            guard let count = text?.utf8.count, count > 15 else { return 0 }
            return count + 32
        }
        // 256: the entry, its place in the table, the key.
        var bytes = 256 + 2 * key.bytes.count
        guard let user else { return bytes }
        bytes += user.events.count * MemoryLayout<StoredEvent>.stride + user.features.count * 128
        for event in user.events {
            bytes += block(event.itemID) + block(event.eventID) + block(event.action)
            bytes += block(event.recommendationID)
        }
        for (name, value) in user.features {
            bytes += block(name)
            switch value {
            case .string(let text): bytes += block(text)
            case .strings(let texts): for text in texts { bytes += 16 + block(text) }
            case .number, .boolean: break
            }
        }
        return bytes
    }
}

/// What a cache has done and holds.
struct CacheCounters: Sendable {
    var hits = 0
    var misses = 0
    var users = 0
    var bytes = 0
}

/// A part of the cache, under one lock.
struct CacheShard: Sendable {
    private struct Slot {
        var key: ExactString
        var user: StoredUser?
        var bytes: Int
        /// Asked for since the hand passed.
        var isUsed: Bool
    }

    private let byteCount: Int
    private var places: [ExactString: Int] = [:]
    private var slots: [Slot?] = []
    private var free: [Int] = []
    /// The slot looked at next when room is needed.
    private var hand = 0
    /// Readers that are fetching a user; one reads at a time on a thread.
    private var tickets: [UInt64: ExactString] = [:]
    private var lastTicket: UInt64 = 0
    private(set) var counters = CacheCounters()

    init(byteCount: Int) { self.byteCount = byteCount }

    mutating func find(_ key: ExactString) -> StateCache.Found {
        if let place = places[key], let user = slots[place]?.user {
            slots[place]?.isUsed = true
            counters.hits += 1
            return .user(user)
        }
        if let place = places[key] {
            slots[place]?.isUsed = true
            counters.hits += 1
            return .user(nil)
        }
        counters.misses += 1
        lastTicket += 1
        tickets[lastTicket] = key
        return .missing(ticket: lastTicket)
    }

    func peek(_ key: ExactString) -> StoredUser? { places[key].flatMap { slots[$0]?.user } }

    mutating func fill(_ key: ExactString, _ user: StoredUser?, bytes: Int, ticket: UInt64) {
        guard tickets.removeValue(forKey: ticket) != nil, places[key] == nil else { return }
        put(key, user, bytes)
    }

    mutating func giveUp(_ ticket: UInt64) { tickets[ticket] = nil }

    mutating func replace(_ key: ExactString, _ user: StoredUser?, bytes: Int) {
        for (ticket, pending) in tickets where pending == key { tickets[ticket] = nil }
        remove(key)
        if let user { put(key, user, bytes) }
    }

    mutating func removeAll() {
        tickets = [:]
        places = [:]
        slots = []
        free = []
        hand = 0
        counters.bytes = 0
        counters.users = 0
    }

    private mutating func put(_ key: ExactString, _ user: StoredUser?, _ bytes: Int) {
        guard bytes <= byteCount else { return }
        evict(until: byteCount - bytes)
        let slot = Slot(key: key, user: user, bytes: bytes, isUsed: false)
        if let place = free.popLast() {
            slots[place] = slot
            places[key] = place
        } else {
            places[key] = slots.count
            slots.append(slot)
        }
        counters.bytes += bytes
        counters.users += 1
    }

    private mutating func remove(_ key: ExactString) {
        guard let place = places.removeValue(forKey: key), let slot = slots[place] else { return }
        counters.bytes -= slot.bytes
        counters.users -= 1
        slots[place] = nil
        free.append(place)
    }

    /// Second chance: who was asked for since the last turn stays for one more.
    private mutating func evict(until limit: Int) {
        while counters.bytes > limit, !slots.isEmpty {
            hand = (hand + 1) % slots.count
            guard let slot = slots[hand] else { continue }
            if slot.isUsed { slots[hand]?.isUsed = false } else { remove(slot.key) }
        }
    }
}
