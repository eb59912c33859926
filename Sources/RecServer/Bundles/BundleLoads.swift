import Artifacts
import Logging
import Ranking
import Retrieval
import Threading

/// Loads versions beside serving and publishes them: one at a time, each on a thread of its own that gives
/// way to everything else.
final class BundleLoads: Sendable {
    /// What to load and what for.
    struct Order: Sendable {
        let path: String
        var label = BundleLabel.default
        /// Share of requests, for canary and shadow.
        var share: Double?
        /// Whether the label is pinned from then on; nil leaves it as it is.
        var isPinned: Bool?
        /// The manifest's digest that must be found, for a rollback.
        var digest: String?
    }

    /// How a load ended.
    enum Result: Sendable {
        case published(LoadedBundle)
        /// The label already stood for that very bundle.
        case unchanged(LoadedBundle)
        case refused(Refusal)

        /// The same without holding the bundle.
        var summary: Summary {
            switch self {
            case .published(let bundle): .init(name: "loaded", digest: bundle.digest, refusal: nil)
            case .unchanged(let bundle): .init(name: "unchanged", digest: bundle.digest, refusal: nil)
            case .refused(let refusal): .init(name: "refused", digest: nil, refusal: refusal)
            }
        }
    }

    /// What is remembered of a result.
    struct Summary: Sendable {
        let name: String
        let digest: String?
        let refusal: Refusal?
    }

    /// Why a bundle does not serve.
    struct Refusal: Error, Sendable {
        /// For metrics and callers, of a fixed set.
        enum Reason: String, CaseIterable, Sendable {
            case unreadable, digest, manifest, tensors, index, goldens, warmup, space, memory, registry, other
        }
        let reason: Reason
        let detail: String
    }

    /// A load as `GET /bundles` shows it.
    struct Report: Sendable {
        let order: Order
        /// Wall clock when it began, nanoseconds since 1970.
        let since: Int64
        /// Nil while it is under way.
        var result: Summary?
        var seconds = 0.0
    }

    private struct State: Sendable {
        var current: Report?
        var last: Report?
        var wantsReload = false
        /// Told when everything that `reload` asked for has ended.
        var afterReload: [@Sendable () -> Void] = []
        var isStopping = false
    }

    /// What the thread has to do, and who waits for its end.
    private enum Job: Sendable {
        case load(Order, @Sendable (Result) -> Void)
        case warm([String], @Sendable () -> Void)
    }

    private let state = Lock(State())
    private let queue = BoundedQueue<Job>(capacity: 1)
    private let thread = Lock<NamedThread?>(nil)
    private let service: RecommendService
    private let configuration: Configuration
    private let threads: Int
    private let memory: MemoryCheck
    private var registry: BundleRegistry { service.registry }

    /// - Parameter threads: compute threads, each of which needs its pipeline of a version.
    init(_ service: RecommendService, _ configuration: Configuration, threads: Int) throws(ThreadingError) {
        self.service = service
        self.configuration = configuration
        self.threads = threads
        memory = MemoryCheck(headroom: configuration.integer("memory_headroom"), limits: MemoryLimits())
        let thread = try NamedThread(name: "load") { [self] in run() }
        self.thread.withLock { $0 = thread }
    }

    /// The load under way, and the last one that ended.
    var reports: (current: Report?, last: Report?) { state.withLock { ($0.current, $0.last) } }

    /// Begins a load; any thread.
    /// - Parameter completion: told how it ended, on the loading thread.
    /// - Returns: false when one is under way.
    func begin(_ order: Order, completion: @escaping @Sendable (Result) -> Void = { _ in }) -> Bool {
        let isFree = state.withLock { state in
            guard state.current == nil else { return false }
            state.current = Report(order: order, since: WallClock.nanoseconds)
            return true
        }
        return isFree && queue.offer(.load(order, completion))
    }

    /// Encodes users' stored histories for the default version; any thread.
    /// - Parameter completion: told when it has ended, on the loading thread.
    /// - Returns: false when a load is under way.
    func warm(_ users: [String], completion: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { $0.current == nil } && queue.offer(.warm(users, completion))
    }

    /// Looks again at the folder that the setting `bundle` names, now or after the load under way.
    /// - Parameter completion: told when that has ended, on the loading thread.
    func reload(completion: (@Sendable () -> Void)? = nil) {
        let isUnderWay = state.withLock { state in
            if let completion { state.afterReload.append(completion) }
            state.wantsReload = state.current != nil
            return state.wantsReload
        }
        // Another load may have begun since; that is one more look, too.
        if !isUnderWay, !begin(Order(path: configuration.text("bundle"))) { reload() }
    }

    /// Ends the thread unless it is loading; false when it is, since that cannot be cut short.
    func stop() -> Bool {
        let isIdle = state.withLock { state in
            state.isStopping = true
            return state.current == nil
        }
        guard isIdle else { return false }
        queue.close()
        thread.withLock { $0 }?.join()
        return true
    }

    // MARK: On the loading thread

    /// Largest list of users to warm.
    private static let prewarmBytesMaximum = 16 << 20

    private func run() {
        FaissIndex.setThreads(1)
        while let job = queue.take() {
            switch job {
            case .load(let order, let completion):
                let start = MonotonicClock.nanoseconds
                let result = perform(order)
                let seconds = Double(MonotonicClock.nanoseconds &- start) / 1e9
                finish(order, completion, result, seconds: seconds)
            case .warm(let users, let completion):
                if let bundle = registry.assignment(.default)?.bundle { warmer(bundle).warm(users) }
                completion()
            }
            // From the first version on there is somebody to give way to.
            if registry.isReady { ThreadPriority.lower() }
        }
    }

    private func finish(
        _ order: Order, _ completion: @Sendable (Result) -> Void, _ result: Result, seconds: Double
    ) {
        record(order, result, seconds: seconds)
        let (wantsReload, afterReload) = state.withLock { state in
            state.last = state.current
            state.last?.result = result.summary
            state.last?.seconds = seconds
            state.current = nil
            defer {
                if !state.wantsReload { state.afterReload = [] }
                state.wantsReload = false
            }
            return (state.wantsReload, state.afterReload)
        }
        completion(result)
        if wantsReload { reload() } else { for end in afterReload { end() } }
    }

    private func record(_ order: Order, _ result: Result, seconds: Double) {
        let metrics = service.metrics
        var metadata: Logger.Metadata = ["label": "\(order.label.rawValue)", "path": "\(order.path)"]
        switch result {
        case .published(let bundle):
            metrics.loaded.add()
            metrics.loadSeconds.record(seconds)
            metadata["model_version"] = "\(bundle.modelVersion)"
            metadata["sha256"] = "\(bundle.digest)"
            metadata["items"] = "\(bundle.snapshot.manifest.items.count)"
            metadata["index"] = "\(bundle.snapshot.indexName)"
            metadata["seconds"] = "\(seconds)"
            service.logger.info("a bundle serves", metadata: metadata)
        case .unchanged(let bundle):
            metrics.unchanged.add()
            metadata["sha256"] = "\(bundle.digest)"
            service.logger.info("the bundle is the one that serves", metadata: metadata)
        case .refused(let refusal):
            metrics.refused(refusal.reason).add()
            metadata["class"] = "\(refusal.reason.rawValue)"
            metadata["reason"] = "\(refusal.detail)"
            service.logger.error("the bundle was refused", metadata: metadata)
        }
    }

    private func perform(_ order: Order) -> Result {
        do {
            guard order.isPinned == false || !registry.isPinned(order.label) else {
                throw BundleRegistry.Refusal.pinned(order.label)
            }
            let path = try BundleFolder.resolve(order.path)
            let digest = try BundleFolder.digest(of: path)
            if let expected = order.digest, digest != expected {
                throw BundleError(file: "manifest.json", expected: "sha256 \(expected)", found: digest)
            }
            let erasures = service.erasures.value
            let bundle = try registry.version(digest: digest) ?? load(path)
            let isNew = try registry.publish(
                bundle, as: order.label, share: order.share, pinned: order.isPinned)
            // A user erased meanwhile may be among those whose histories were warmed.
            if service.erasures.value != erasures { bundle.histories?.removeAll() }
            return isNew ? .published(bundle) : .unchanged(bundle)
        } catch {
            // What was set aside for the version's histories goes back to those that serve.
            registry.divideHistoryBudget()
            return .refused(Refusal(error))
        }
    }

    private func load(_ path: String) throws -> LoadedBundle {
        // Otherwise three versions could be in memory where two are meant to be.
        guard service.reaper.waitUntilFree() else {
            throw Refusal(reason: .other, detail: "the process is ending")
        }
        if registry.versions.count >= BundleRegistry.versionsMaximum {
            guard registry.dropKept(), service.reaper.waitUntilFree() else {
                throw BundleRegistry.Refusal.tooMany
            }
        }
        var loader = SnapshotLoader(configuration: configuration, logger: service.logger)
        loader.admit = { [memory, service] manifest, bytes throws(BundleError) in
            do throws(BundleError) { try memory.check(manifest, fileBytes: bytes) } catch {
                // What is only kept for a rollback can be loaded again when it is needed.
                guard service.registry.dropKept(), service.reaper.waitUntilFree() else { throw error }
                try memory.check(manifest, fileBytes: bytes)
            }
        }
        loader.bases = registry.folders
        if registry.isReady {
            loader.isBesideServing = true
            loader.bytesPerSecond = configuration.integer("load_bytes_per_second")
        }
        let bundle = try loader.loadBundle(
            path, threads: threads, metrics: service.metrics, historyBudget: registry.historyBudget)
        for version in registry.versions {
            try SpaceCheck.verify(new: bundle.snapshot, against: version.snapshot)
        }
        warmHistories(bundle)
        service.popularity?.publish(to: bundle)
        return bundle
    }

    /// Fills the new version's cache for the users who were here last and those whom the settings list.
    private func warmHistories(_ bundle: LoadedBundle) {
        guard bundle.histories != nil else { return }
        registry.divideHistoryBudget(next: bundle)
        let warmer = warmer(bundle)
        warmer.warm(listedUsers())
        if let serving = registry.assignment(.default)?.bundle {
            warmer.warm(after: serving, users: configuration.integer("prewarm_users"))
        }
    }

    private func warmer(_ bundle: LoadedBundle) -> HistoryWarmer {
        let progress = ProgressLine { [service] in service.logger.info("\($0)") }
        return HistoryWarmer(bundle: bundle, stored: service.storedUser) { [state] done, total in
            progress.show("warming histories", done, total)
            return !state.withLock { $0.isStopping }
        }
    }

    /// The users of the file that `prewarm_file` names, one id a line.
    private func listedUsers() -> [String] {
        let path = configuration.text("prewarm_file")
        guard !path.isEmpty else { return [] }
        do {
            let file = try FileBytes(path: path, name: path, maximum: Self.prewarmBytesMaximum)
            return file.copy().split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
        } catch {
            service.logger.warning("no histories are warmed from the file", metadata: ["reason": "\(error)"])
            return []
        }
    }
}

extension BundleLoads.Refusal {
    /// The refusal that an error of loading amounts to.
    init(_ error: any Error) {
        switch error {
        case let refusal as BundleLoads.Refusal: self = refusal
        case let error as BundleError: self.init(reason: Self.reason(error), detail: error.description)
        case let error as BundleRegistry.Refusal: self.init(reason: .registry, detail: error.description)
        default: self.init(reason: .other, detail: "\(error)")
        }
    }

    private static func reason(_ error: BundleError) -> Reason {
        if error.expected.hasPrefix("a readable") { return .unreadable }
        if error.expected.hasPrefix("sha256") { return .digest }
        if error.tensor == SpaceCheck.subject { return .space }
        switch error.file {
        case MemoryCheck.subject: return .memory
        case Golden.file: return .goldens
        case SnapshotLoader.warmUpFile: return .warmup
        case "retrieval.faiss": return .index
        case "manifest.json": return .manifest
        default: return error.file.hasSuffix(".safetensors") ? .tensors : .other
        }
    }
}
