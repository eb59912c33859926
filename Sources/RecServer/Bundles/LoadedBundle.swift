import Artifacts
import Ranking
import Threading

/// One version that is loaded: its snapshot, the scratch memory to answer from it, and where it came from.
///
/// Whoever answers a request holds it to the end; after it has left the registry, `BundleReaper` frees it.
final class LoadedBundle: Sendable {
    let snapshot: Snapshot
    /// The folder it was read from, links resolved.
    let path: String
    /// Bytes of its files.
    let byteCount: Int
    /// Wall clock when it was ready, nanoseconds since 1970.
    let readyAt: Int64
    /// Users' histories as its sequence model encodes them; nil without the model or without a budget.
    let histories: HistoryCache?
    /// Its items' popularity with events.
    let popularity = Lock(CountedPopularity())
    /// Pipelines for the compute threads.
    let pipelines: LendingShelf<RecommendPipeline>
    /// The pipeline of shadow requests, whose stages count in no metric.
    let shadowPipelines: LendingShelf<RecommendPipeline>

    var modelVersion: String { snapshot.manifest.modelVersion }
    var digest: String { snapshot.digest }

    /// - Parameter threads: compute threads, each of which may need a pipeline.
    init(
        _ snapshot: Snapshot, path: String, threads: Int, settings: PipelineSettings, metrics: Metrics,
        histories: HistoryCache? = nil
    ) {
        self.snapshot = snapshot
        self.path = path
        byteCount = snapshot.manifest.files.values.reduce(0) { $0 &+ $1.byteCount }
        readyAt = WallClock.nanoseconds
        self.histories = histories
        let popularity = popularity
        pipelines = LendingShelf(capacity: threads) {
            RecommendPipeline(snapshot, settings, metrics, cache: histories, counted: popularity)
        }
        shadowPipelines = LendingShelf(capacity: 1) {
            RecommendPipeline(snapshot, settings, Metrics(), cache: histories, counted: popularity)
        }
    }
}

/// A name under which a version is used.
enum BundleLabel: String, CaseIterable, Sendable {
    /// Answers requests that name no model; there is always one.
    case `default`
    /// Answers a share of these requests.
    case canary
    /// Computes a share of the default's requests again, for comparison; its answers are never sent.
    case shadow
}
