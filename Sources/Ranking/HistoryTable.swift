/// Some users' chains in order of use.
///
/// Two lists, as a segmented LRU has them: `probation` for users seen once, `protected` for users who came
/// back, so that many who never come back cannot push out those who do. All O(1) unless said otherwise.
struct HistoryTable: Sendable {
    enum Segment: Int, Sendable, CaseIterable { case probation, protected }

    /// The most recently stored history of a user, and the one before it if that is another.
    struct Variants: Sendable {
        var recent: HistoryChain?
        var other: HistoryChain?

        var count: Int { (recent == nil ? 0 : 1) + (other == nil ? 0 : 1) }

        /// Bytes of both, shared blocks once.
        var bytes: Int {
            guard let recent, let other else { return (recent ?? other)?.byteCount ?? 0 }
            return recent.byteCount + other.byteCount - recent.sharedBytes(with: other)
        }
    }

    /// One user.
    private struct Node {
        var user: String
        var variants: Variants
        var bytes: Int
        var lastUse: UInt64
        var segment = Segment.probation
        var newer: Int32 = -1
        var older: Int32 = -1
    }

    private struct List {
        var newest: Int32 = -1
        var oldest: Int32 = -1
        var bytes = 0
    }

    private var index: [String: Int32] = [:]
    private var nodes: [Node] = []
    private var unused: [Int32] = []
    private var lists = [List](repeating: List(), count: Segment.allCases.count)

    /// Users held.
    var count: Int { index.count }

    /// Histories held; O(users).
    var chainCount: Int { nodes.reduce(0) { $0 + $1.variants.count } }

    /// Bytes of a list's users.
    func bytes(_ segment: Segment) -> Int { lists[segment.rawValue].bytes }

    /// When the oldest user of a list was last used; `.max` for an empty one.
    func oldestUse(_ segment: Segment) -> UInt64 {
        let oldest = lists[segment.rawValue].oldest
        return oldest < 0 ? .max : nodes[Int(oldest)].lastUse
    }

    // MARK: Use

    /// A user's histories without counting it as a use.
    func variants(of user: String) -> Variants? { index[user].map { nodes[Int($0)].variants } }

    /// A user's histories; who is found has come back and is protected from here on.
    mutating func use(_ user: String, at time: UInt64) -> Variants? {
        guard let found = index[user] else { return nil }
        move(found, to: .protected, at: time)
        return nodes[Int(found)].variants
    }

    /// Puts `chain` first. What it supersedes goes, and of the rest all but one: those are returned.
    mutating func store(_ chain: HistoryChain, for user: String, at time: UInt64) -> [HistoryChain] {
        guard let found = index[user] else {
            add(
                Node(
                    user: user, variants: Variants(recent: chain, other: nil), bytes: chain.byteCount,
                    lastUse: time))
            return []
        }
        let old = nodes[Int(found)].variants
        var kept: HistoryChain?
        var replaced: [HistoryChain] = []
        for candidate in [old.recent, old.other] {
            guard let candidate else { continue }
            if kept == nil, !chain.supersedes(candidate) {
                kept = candidate
            } else {
                replaced.append(candidate)
            }
        }
        let variants = Variants(recent: chain, other: kept)
        let bytes = variants.bytes
        lists[nodes[Int(found)].segment.rawValue].bytes += bytes - nodes[Int(found)].bytes
        nodes[Int(found)].bytes = bytes
        nodes[Int(found)].variants = variants
        move(found, to: nodes[Int(found)].segment, at: time)
        return replaced
    }

    // MARK: Removal; what is returned is to be let go outside the lock

    /// Takes a user out.
    mutating func remove(_ user: String) -> Variants? {
        guard let found = index[user] else { return nil }
        return remove(found)
    }

    /// Takes the oldest user of a list out.
    mutating func removeOldest(_ segment: Segment) -> Variants? {
        let oldest = lists[segment.rawValue].oldest
        return oldest < 0 ? nil : remove(oldest)
    }

    /// Moves the oldest protected user to the newer end of probation.
    mutating func demoteOldest() {
        let oldest = lists[Segment.protected.rawValue].oldest
        guard oldest >= 0 else { return }
        move(oldest, to: .probation, at: nodes[Int(oldest)].lastUse)
    }

    // MARK: Listing

    /// Up to `limit` users of each list, newest first; O(limit).
    func newest(_ limit: Int) -> [(user: String, lastUse: UInt64, variants: Variants)] {
        var users: [(user: String, lastUse: UInt64, variants: Variants)] = []
        for list in lists {
            var next = list.newest
            var left = limit
            while next >= 0, left > 0 {
                let node = nodes[Int(next)]
                users.append((node.user, node.lastUse, node.variants))
                next = node.older
                left -= 1
            }
        }
        return users
    }

    // MARK: The lists

    private mutating func add(_ node: Node) {
        let place: Int32
        if let free = unused.popLast() {
            place = free
            nodes[Int(place)] = node
        } else {
            place = Int32(nodes.count)
            nodes.append(node)
        }
        index[node.user] = place
        link(place)
    }

    private mutating func remove(_ place: Int32) -> Variants {
        unlink(place)
        let node = nodes[Int(place)]
        index[node.user] = nil
        nodes[Int(place)].variants = Variants()
        nodes[Int(place)].user = ""
        unused.append(place)
        return node.variants
    }

    private mutating func move(_ place: Int32, to segment: Segment, at time: UInt64) {
        unlink(place)
        nodes[Int(place)].segment = segment
        nodes[Int(place)].lastUse = time
        link(place)
    }

    private mutating func unlink(_ place: Int32) {
        let (segment, newer, older) =
            (nodes[Int(place)].segment.rawValue, nodes[Int(place)].newer, nodes[Int(place)].older)
        lists[segment].bytes -= nodes[Int(place)].bytes
        if newer < 0 { lists[segment].newest = older } else { nodes[Int(newer)].older = older }
        if older < 0 { lists[segment].oldest = newer } else { nodes[Int(older)].newer = newer }
    }

    private mutating func link(_ place: Int32) {
        let segment = nodes[Int(place)].segment.rawValue
        let newest = lists[segment].newest
        lists[segment].bytes += nodes[Int(place)].bytes
        nodes[Int(place)].newer = -1
        nodes[Int(place)].older = newest
        if newest < 0 { lists[segment].oldest = place } else { nodes[Int(newest)].newer = place }
        lists[segment].newest = place
    }
}
