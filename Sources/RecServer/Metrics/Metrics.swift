import Synchronization
import Threading

/// A count that any thread may raise.
final class Counter: Sendable {
    private let count = Atomic<UInt64>(0)

    func add(_ amount: Int = 1) { count.wrappingAdd(UInt64(clamping: amount), ordering: .relaxed) }
    var value: UInt64 { count.load(ordering: .relaxed) }
}

/// A distribution over fixed bounds; recording is a few atomic additions on any thread.
final class Histogram: Sendable {
    /// Upper bounds, ascending; a last bucket without a bound follows.
    let bounds: [Double]
    private let buckets: [Counter]
    /// Sum in billionths, so that it stays an integer.
    private let sum = Counter()
    /// The newest request of each bucket whose trace somebody has, by the bucket.
    private let exemplars = Lock<[Int: Exemplar]>([:])

    /// A request by which a bucket was counted.
    struct Exemplar: Sendable {
        let traceID: String
        let value: Double
        /// Nanoseconds since 1970.
        let time: Int64
    }

    /// Seconds, OpenTelemetry's bounds with finer ones below 5 ms, where this server works.
    static let secondsBounds: [Double] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5,
        5, 7.5, 10,
    ]
    /// Seconds of work that may take minutes.
    static let longSecondsBounds: [Double] = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800]
    /// Shares of a whole.
    static let shareBounds: [Double] = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    /// Numbers of items.
    static let countBounds: [Double] = [0, 1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]

    init(bounds: [Double]) {
        self.bounds = bounds
        buckets = (0...bounds.count).map { _ in Counter() }
    }

    /// Records a value ≥ 0.
    func record(_ value: Double) {
        buckets[bounds.firstIndex { value <= $0 } ?? bounds.count].add()
        sum.add(Int((value * 1e9).rounded()))
    }

    /// Records a duration in nanoseconds.
    /// - Parameter traceID: the trace that shows it, if somebody has recorded one.
    func record(nanoseconds: UInt64, traceID: String? = nil) {
        let seconds = Double(nanoseconds) / 1e9
        let bucket = bounds.firstIndex { seconds <= $0 } ?? bounds.count
        buckets[bucket].add()
        sum.add(Int(clamping: nanoseconds))
        guard let traceID else { return }
        let exemplar = Exemplar(traceID: traceID, value: seconds, time: WallClock.nanoseconds)
        exemplars.withLock { $0[bucket] = exemplar }
    }

    /// Examples by bucket.
    var examples: [Int: Exemplar] { exemplars.withLock { $0 } }

    /// Cumulative counts per bucket, the last being the total, and the sum of the values.
    var snapshot: (cumulative: [UInt64], sum: Double) {
        var total: UInt64 = 0
        let cumulative = buckets.map { bucket in
            total += bucket.value
            return total
        }
        return (cumulative, Double(sum.value) / 1e9)
    }
}

/// Everything `/metrics` shows that the request path records; label values come from fixed sets only.
final class Metrics: Sendable {
    /// Label values of `route`.
    enum Route: String, CaseIterable, Sendable {
        case recommend = "/recommend"
        case similar = "/similar/{item_id}"
        case events = "/events"
        case user = "/users/{user_id}"
        case userEvent = "/users/{user_id}/events/{event_id}"
        case livez = "/livez", readyz = "/readyz", healthz = "/healthz", version = "/version", metrics =
            "/metrics"
        case openapi = "/openapi.yaml"
        case other

        /// The position in `allCases`, which would be made anew for each look.
        var index: Int {
            switch self {
            case .recommend: 0
            case .similar: 1
            case .events: 2
            case .user: 3
            case .userEvent: 4
            case .livez: 5
            case .readyz: 6
            case .healthz: 7
            case .version: 8
            case .metrics: 9
            case .openapi: 10
            case .other: 11
            }
        }
    }

    /// Label values of `stage`, in pipeline order.
    enum Stage: String, CaseIterable, Sendable {
        case queue, decode, retrieve, sequence, rank, slate, encode

        var index: Int { Self.allCases.firstIndex(of: self) ?? 0 }
    }

    /// Statuses with a series of their own; anything else counts as 500.
    static let statuses = [
        200, 204, 304, 400, 401, 403, 404, 405, 408, 410, 412, 413, 414, 415, 417, 422, 429, 431, 500, 501,
        503,
        504, 505,
    ]

    /// The position in `statuses` of each status from 0 to 599.
    private static let columns = (0..<600).map { status in
        UInt8(statuses.firstIndex(of: status) ?? statuses.firstIndex(of: 500) ?? 0)
    }

    private let requests: [[Histogram]]
    let stages: [Histogram]
    /// Candidates after retrieval, after the filters, and in the slate.
    let candidatesRetrieved = Histogram(bounds: Histogram.countBounds)
    let candidatesRanked = Histogram(bounds: Histogram.countBounds)
    let itemsReturned = Histogram(bounds: Histogram.countBounds)
    let shed = Counter()
    let abandoned = Counter()
    let deadlinesMissed = Counter()
    let shortAnswers = Counter()
    /// Candidates left out because their user had been shown them often and had done nothing.
    let ignoredLeftOut = Counter()
    let scoresDropped = Counter()
    let exactScans = Counter()
    let historyTokens = Counter()
    /// Requests answered without their user's state, because it could not be read.
    let userReadsFailed = Counter()
    /// Users whose new events were encoded before they asked, and those that were left to the next request.
    let eagerEncoded = Counter()
    let eagerDropped = Counter()
    /// Changes of user state that popularity took into account, and those there was no time for.
    let changesFollowed = Counter()
    let changesDropped = Counter()
    let batchLinesAnswered = Counter()
    let batchLinesRefused = Counter()
    /// Events posted, by what became of them.
    let eventsStored = Counter()
    let eventsDuplicate = Counter()
    let eventsRefused = Counter()
    let eventsFailed = Counter()
    private let degraded: [Counter]
    /// Loads of bundles by how they ended.
    let loaded = Counter()
    let unchanged = Counter()
    private let refusedLoads: [BundleLoads.Refusal.Reason: Counter]
    /// Upgrades after which this process went on.
    let upgradesFailed = Counter()
    let loadSeconds = Histogram(bounds: Histogram.longSecondsBounds)
    /// Requests answered from an exact version that they named.
    let versionRequests = Counter()
    private let labelRequests: [BundleLabel: Counter]
    let shadow = ShadowMetrics()
    let admission = AdmissionMetrics()

    init() {
        requests = Route.allCases.map { _ in
            Self.statuses.map { _ in Histogram(bounds: Histogram.secondsBounds) }
        }
        stages = Stage.allCases.map { _ in Histogram(bounds: Histogram.secondsBounds) }
        degraded = DegradationStep.allCases.map { _ in Counter() }
        refusedLoads = Dictionary(
            uniqueKeysWithValues: BundleLoads.Refusal.Reason.allCases.map { ($0, Counter()) })
        labelRequests = Dictionary(uniqueKeysWithValues: BundleLabel.allCases.map { ($0, Counter()) })
    }

    /// Loads refused for a reason.
    func refused(_ reason: BundleLoads.Refusal.Reason) -> Counter { refusedLoads[reason] ?? Counter() }
    /// Requests answered under a label, or by an exact version for nil.
    func requests(_ label: BundleLabel?) -> Counter { label.flatMap { labelRequests[$0] } ?? versionRequests }

    func record(_ route: Route, status: Int, nanoseconds: UInt64, traceID: String? = nil) {
        let column = Self.columns[(0..<600).contains(status) ? status : 500]
        requests[route.index][Int(column)].record(nanoseconds: nanoseconds, traceID: traceID)
    }

    func histogram(_ route: Route, statusIndex: Int) -> Histogram { requests[route.index][statusIndex] }
    func record(_ stage: Stage, nanoseconds: UInt64, traceID: String? = nil) {
        stages[stage.index].record(nanoseconds: nanoseconds, traceID: traceID)
    }
    func degraded(_ step: DegradationStep) -> Counter {
        degraded[DegradationStep.allCases.firstIndex(of: step) ?? 0]
    }
}

/// A rung of the ladder from the full answer down to the popular list, as answers and metrics name it.
enum DegradationStep: String, CaseIterable, Sendable {
    case sequenceSkipped = "sequence_skipped"
    case rankerSkipped = "ranker_skipped"
    case popular
}
