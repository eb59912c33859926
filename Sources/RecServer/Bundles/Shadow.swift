import Logging
import Ranking
import Retrieval
import Threading
import UserState

/// How the shadow's answers differ from those that were sent.
final class ShadowMetrics: Sendable {
    let answered = Counter()
    let failed = Counter()
    /// Left out because there was no time for them.
    let dropped = Counter()
    let seconds = Histogram(bounds: Histogram.secondsBounds)
    /// Share of the answer's items that the shadow has on its page of the same size.
    let overlap = Histogram(bounds: Histogram.shareBounds)
    /// Mean distance in places of the items on both pages.
    let rankDifference = Histogram(bounds: Histogram.countBounds)

    /// Records how `theirs`, the shadow's page, compares with `ours`, the one that was sent; ids in order.
    func compare(sent ours: [String], shadow theirs: [String]) {
        var places: [String: Int] = [:]
        for (place, item) in theirs.enumerated() { places[item] = place }
        var common = 0
        var distance = 0
        for (place, item) in ours.enumerated() {
            guard let other = places[item] else { continue }
            common += 1
            distance += abs(place - other)
        }
        overlap.record(ours.isEmpty ? (theirs.isEmpty ? 1 : 0) : Double(common) / Double(ours.count))
        if common > 0 { rankDifference.record(Double(distance) / Double(common)) }
    }
}

/// A request that was answered, for the shadow to answer again.
struct ShadowJob: Sendable {
    let bundle: LoadedBundle
    let request: RecommendRequest
    /// What the answer knew of the user.
    let stored: StoredUser?
    /// The item ids that were sent, in order.
    let sent: [String]
    /// Users erased, and how many of them there were when `stored` was read.
    let erasures: Counter
    let erasuresBefore: UInt64

    /// Whether the user may have been erased since.
    var isStale: Bool { erasures.value != erasuresBefore }
}

/// Answers requests again from the shadow's version, on one thread that gives way to all others and only
/// while no request waits; what there is no time for is dropped.
final class Shadow: Sendable {
    /// Most requests that wait; each holds its body.
    private static let queueMaximum = 64
    /// Nobody waits for a shadow's answer, and one that left stages out could not be compared.
    private static let deadlineMilliseconds = 10_000

    private let queue: BoundedQueue<ShadowJob>
    private let metrics: ShadowMetrics
    private let thread: NamedThread

    /// - Parameter isBusy: whether requests wait for a compute thread.
    init(_ metrics: ShadowMetrics, isBusy: @escaping @Sendable () -> Bool) throws(ThreadingError) {
        let queue = BoundedQueue<ShadowJob>(capacity: Self.queueMaximum)
        thread = try NamedThread(name: "shadow") {
            ThreadPriority.lower()
            FaissIndex.setThreads(1)
            while let job = queue.take() {
                if isBusy() || job.isStale { metrics.dropped.add() } else { Self.answer(job, metrics) }
            }
        }
        self.queue = queue
        self.metrics = metrics
    }

    /// Takes a request over unless too many wait; never waits.
    func offer(_ job: ShadowJob) { if !queue.offer(job) { metrics.dropped.add() } }

    /// Finishes the request at hand, drops the others, and ends the thread.
    func stop() {
        queue.close()
        while queue.takeIfAny() != nil { metrics.dropped.add() }
        thread.join()
    }

    private static func answer(_ job: ShadowJob, _ metrics: ShadowMetrics) {
        var request = job.request
        request.mayDegrade = false
        request.deadlineMilliseconds = deadlineMilliseconds
        let start = MonotonicClock.nanoseconds
        do throws(Problem) {
            let answer = try job.bundle.shadowPipelines.lend { pipeline throws(Problem) in
                var clock = StageClock(start: start)
                let answer = try pipeline.recommend(
                    request, stored: job.stored, receivedAt: start, clock: &clock)
                return answer.items.map(\.itemID)
            }
            // Erased meanwhile: what was encoded must go, too.
            if job.isStale, let user = request.userID { job.bundle.histories?.remove(user: user) }
            metrics.seconds.record(nanoseconds: MonotonicClock.nanoseconds &- start)
            metrics.compare(sent: job.sent, shadow: answer)
            metrics.answered.add()
        } catch {
            metrics.failed.add()
        }
    }
}
