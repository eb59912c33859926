/// Who is let in to the compute threads, who comes next, and who has waited too long: the rules, without
/// threads or a clock of their own. Times are monotonic nanoseconds.
struct AdmissionLines<Element: Sendable>: Sendable {
    typealias Entry = WaitingLine<Element>.Entry

    /// What a thread gets to do.
    struct Taken: Sendable {
        let entry: Entry
        /// The fullest answer that the queue behind it leaves room for.
        let relief: StagePlan
    }

    /// What a thread is doing.
    private struct Running: Sendable {
        var work: Work
        let startedAt: UInt64
        let cost: UInt64

        /// Nanoseconds until the thread takes something else; a batch makes room.
        func rest(at now: UInt64) -> Double {
            let end = startedAt &+ (work.kind == .batch ? min(cost, BatchProgress.turn) : cost)
            return end > now ? Double(end - now) : 0
        }
    }

    let policy: AdmissionPolicy
    private(set) var lines = Lane.allCases.map { _ in WaitingLine<Element>() }
    private(set) var costs = WorkKind.allCases.map { _ in WorkCost() }
    private(set) var relief = Relief()
    private(set) var count = 0
    private var running: [Running?]
    /// The share of the lane that was served last: one that becomes busy begins there, not with credit.
    private var servedShare = 0.0

    init(_ policy: AdmissionPolicy) {
        self.policy = policy
        running = Array(repeating: nil, count: policy.threads)
    }

    /// Threads at work.
    var busyCount: Int { running.count { $0 != nil } }

    // MARK: Letting in

    /// Lets work wait, or refuses it.
    mutating func offer(_ element: Element, _ work: Work, now: UInt64) -> AdmissionVerdict {
        let lane = work.kind.lane.index
        let patience = patience(of: work)
        let target = target(work)
        lines[lane].limit.advance(to: now, target: target, patience: patience)
        let wait = wait(lane, now: now)
        if wait == 0 { lines[lane].limit.noteWait(0) }
        guard count < policy.capacity else {
            lines[lane].limit.noteRefusal()
            return .refused(.full)
        }
        // The limit is not for those who pay with a lesser answer sooner.
        guard wait <= patience, wait <= lines[lane].limit.value else {
            lines[lane].limit.noteRefusal()
            return .refused(.wait)
        }
        if lines[lane].isEmpty { lines[lane].share = max(lines[lane].share, servedShare) }
        let lifetime = work.kind.lane.patience ?? deadline(of: work)
        let expiresAt = now &+ lifetime - min(lifetime / 8, Self.answerNanoseconds)
        lines[lane].append(
            Entry(
                element: element, work: work, cost: costs[work.kind.rawValue].estimate(work.units),
                queuedAt: now, expiresAt: expiresAt,
                patience: min(patience, lines[lane].limit.value)))
        count += 1
        let isQueued = wait > 0 || count + busyCount > policy.threads
        return .admitted(expiresAt: isQueued ? expiresAt : nil)
    }

    /// 2 ms: kept back from a deadline, so that also the answer that nothing can be done comes in time.
    private static var answerNanoseconds: UInt64 { 2_000_000 }

    private func deadline(of work: Work) -> UInt64 { work.deadline ?? policy.deadline }

    /// Nanoseconds that work may wait: three quarters of its deadline, the rest is for the answer.
    private func patience(of work: Work) -> UInt64 { work.kind.lane.patience ?? deadline(of: work) / 4 * 3 }

    /// Fewer than six requests waiting would leave threads idle between two arrivals.
    private func target(_ work: Work) -> UInt64 {
        max(policy.target, costs[work.kind.rawValue].estimate(work.units) * 6 / UInt64(policy.threads))
    }

    // MARK: Waiting

    /// Nanoseconds that work offered now to a lane would wait.
    func wait(_ lane: Int, now: UInt64) -> UInt64 {
        let own = Double(lines[lane].cost)
        var ahead = own
        for other in Lane.allCases where other.index != lane {
            // The other lanes get no more than their shares while this one's work is done.
            let share = own * other.weight / Lane.allCases[lane].weight
            ahead += min(Double(lines[other.index].cost), share)
        }
        return fill(ahead, now: now)
    }

    /// When the threads have done `work` nanoseconds more than what they are doing.
    private func fill(_ work: Double, now: UInt64) -> UInt64 {
        let rests = running.map { $0?.rest(at: now) ?? 0 }.sorted()
        var level = 0.0
        var left = work
        for (busy, rest) in rests.enumerated() {
            let room = Double(busy) * (rest - level)
            guard left >= room else { return UInt64(level + left / Double(busy)) }
            left -= room
            level = rest
        }
        return UInt64(min(level + left / Double(rests.count), 0x1p60))
    }

    // MARK: Taking

    /// What `thread` is to do next; nil when nothing waits. What it did before has ended.
    /// - Parameters:
    ///   - isGone: whether nobody waits for an answer.
    ///   - stale: receives what came too late on the way.
    mutating func take(
        thread: Int, now: UInt64, isGone: (Element) -> Bool, stale: inout [Entry]
    ) -> Taken? {
        finish(thread, now)
        while let lane = nextLane() {
            guard let entry = lines[lane].removeFirst() else { return nil }
            count -= 1
            if entry.expiresAt <= now || isGone(entry.element) {
                stale.append(entry)
                continue
            }
            servedShare = lines[lane].share
            lines[lane].share += Double(entry.cost) / Lane.allCases[lane].weight
            lines[lane].limit.noteWait(now - entry.queuedAt)
            running[thread] = Running(work: entry.work, startedAt: now, cost: entry.cost)
            let wait = lane == Lane.changes.index ? 0 : wait(lane, now: now)
            return Taken(entry: entry, relief: relief.plan(wait: wait, patience: entry.patience))
        }
        return nil
    }

    /// The busy lane that has had the least of its share.
    private func nextLane() -> Int? {
        lines.indices.filter { !lines[$0].isEmpty }.min { lines[$0].share < lines[$1].share }
    }

    /// Learns from what `thread` has done.
    private mutating func finish(_ thread: Int, _ now: UInt64) {
        guard let done = running[thread] else { return }
        running[thread] = nil
        let spent = now - done.startedAt
        costs[done.work.kind.rawValue].learn(nanoseconds: spent, units: done.work.units)
        let lane = done.work.kind.lane
        lines[lane.index].share += (Double(spent) - Double(done.cost)) / lane.weight
    }

    /// Lets the rest of what `thread` has begun wait for its lane's next turn. It was let in before and is
    /// not refused now.
    mutating func resume(_ element: Element, _ rest: Work, thread: Int, now: UInt64) {
        running[thread]?.work.units -= rest.units
        finish(thread, now)
        let lane = rest.kind.lane.index
        lines[lane].append(
            Entry(
                element: element, work: rest, cost: costs[rest.kind.rawValue].estimate(rest.units),
                queuedAt: now, expiresAt: .max, patience: patience(of: rest)))
        count += 1
    }

    /// Removes what has waited too long, and what nobody waits for any more.
    /// - Returns: when the next of what is left will have waited too long; `UInt64.max` where nothing is.
    mutating func sweep(now: UInt64, isGone: (Element) -> Bool, stale: inout [Entry]) -> UInt64 {
        for lane in lines.indices {
            lines[lane].removeAll(where: { $0.expiresAt <= now || isGone($0.element) }, into: &stale)
        }
        count = lines.reduce(0) { $0 + $1.count }
        return lines.reduce(.max) { min($0, $1.earliestExpiry) }
    }

    // MARK: Reading

    /// A lane as metrics show it.
    func reading(_ lane: Lane, now: UInt64) -> LaneReading {
        let line = lines[lane.index]
        return LaneReading(
            wait: wait(lane.index, now: now),
            limit: line.limit.isHeld ? line.limit.value : lane.patience ?? policy.deadline / 4 * 3,
            isHeld: line.limit.isHeld)
    }
}

/// The state of a lane at one moment.
struct LaneReading: Sendable, Equatable {
    /// Nanoseconds that one more would wait, and that it may at most.
    let wait: UInt64
    let limit: UInt64
    /// Whether the limit is lower than deadlines allow, because requests were refused.
    let isHeld: Bool
}
