import Artifacts
import HTTP
import Kernels
import Logging
import Threading
import UserState

/// The daemon: composition root and life cycle, listen → load → ready → drain → stop.
final class Server: Sendable {
    let configuration: Configuration
    let logger: Logger
    let service: RecommendService
    let certificates: Certificates?
    let notifier = ServiceNotifier()
    /// What another process has left to this one, if any has.
    let takeover: Takeover?
    /// An upgrade waits for the end of the process before this one.
    let upgradeIsWanted = Lock(false)
    private let startedAt = WallClock.nanoseconds
    let counters = CountersSource()

    /// This program's version.
    static let version = "0.1.0"

    /// A table's memory goes back when its version does; requests rarely need blocks this large.
    private static let mappedBlockBytes = 1 << 20

    init(configuration: Configuration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        // Before the program's file can be another one.
        _ = ProcessEnvironment.programPath
        takeover = try Handover.found().map { Takeover($0, logger: logger) }
        let identifiers = IdentifierSource()
        let seeds = SeedSource(eventMaximum: configuration.integer("history_max"))
        service = try RecommendService(
            settings: PipelineSettings(configuration),
            keepsPrevious: configuration.text("keep_previous") == "on",
            historyBytes: configuration.integer("history_cache_bytes"),
            users: try UserStates(
                configuration, inheritedLock: takeover?.handover.stateLock, seed: seeds.seed, logger: logger),
            slates: Slates(
                byteLimit: configuration.integer("cursor_bytes"),
                ttlSeconds: configuration.integer("cursor_ttl_s")),
            shown: ShownItems(
                ignoredAfter: configuration.integer("ignored_after"),
                ignoredSeconds: configuration.integer("ignored_ttl_s"),
                shiftMaximum: configuration.integer("session_shift_max"),
                sessionSeconds: configuration.integer("session_ttl_s")),
            access: try Access(configuration, logger: logger), edge: try Edge(configuration),
            feedback: try FeedbackLog.begun(configuration, logger: logger),
            accessLog: try AccessLog.begun(configuration, logger: logger),
            spans: try SpanExporter.begun(configuration, identifiers: identifiers, logger: logger),
            identifiers: identifiers, logger: logger)
        certificates = try Certificates(configuration, logger: logger)
        seeds.attach(service.registry)
    }

    /// What runs while the daemon does.
    struct Parts {
        let pool: ComputePool
        let loads: BundleLoads
        /// Nil before the daemon listens.
        var http: Upgrade.Handed?
        var admin: Upgrade.Handed?
        var watchdog: Watchdog?
        var servers: [Upgrade.Handed] { [http, admin].compactMap { $0 } }
    }

    /// Serves until a signal ends it, or another process serves in its place.
    /// - Returns: the exit code: 0 after a clean drain, 1 when the start failed or requests were cut.
    func run() throws -> Int32 {
        try Signals.install()
        ProcessMemory.mapBlocks(from: Self.mappedBlockBytes)
        // Each connection is a descriptor: the soft limit of a login shell is 1,024.
        _ = ProcessStatistics.raiseFileLimit()
        var parts = try makeParts()
        // Where another process serves, this one does not before its bundle is loaded.
        if takeover == nil { try listen(&parts) }
        var wantsUpgrade = false
        switch try loadOrSignal(parts.loads, &wantsUpgrade) {
        case .ended(let summary) where summary.refusal != nil: return giveUp(parts)
        case .ended(let summary):
            if let takeover {
                guard takeover.isToServe() else {
                    logger.error("the old process did not hand over")
                    return giveUp(parts)
                }
                try listen(&parts)
                let service = service
                // What the old process erased last may still be here.
                let isMain = try takeover.serves(service.users) { service.forgetAll() }
                guard isMain else {
                    logger.error("the old process took back what it handed over")
                    return giveUp(parts)
                }
            }
            logger.info("ready", metadata: ["sha256": "\(summary.digest ?? "")"])
            notifyReady()
            let upgrade = Upgrade(
                parts.servers, users: service.users, notifier: notifier,
                limit: .seconds(configuration.integer("upgrade_timeout_s")),
                failures: service.metrics.upgradesFailed, logger: logger)
            if wantsUpgrade { begin(upgrade) }
            try waitForEnd(parts.loads, upgrade)
            // It holds the channel whose end tells the new process that this one has ended.
            return withExtendedLifetime(upgrade) { upgrade.isDone ? leave(parts) : drain(parts) }
        case .endedBySignal:
            return drain(parts)
        case .interrupted:
            logger.info("stopped while loading")
            _ = stop(parts, after: .zero)
            ProcessExit.immediately(0)
        }
    }

    private func makeParts() throws -> Parts {
        let wanted = configuration.integer("compute_threads")
        let threads = wanted == 0 ? NamedThread.processorCount : wanted
        let pool = try ComputePool(
            AdmissionPolicy(configuration, threads: threads),
            niceness: configuration.integer("compute_nice"), service: service)
        return Parts(pool: pool, loads: try BundleLoads(service, configuration, threads: threads))
    }

    private func listen(_ parts: inout Parts) throws {
        let listeners = try Listeners(
            configuration,
            takeover?.handover.activated ?? InheritedSockets(environment: ProcessEnvironment.value),
            tls: certificates?.context)
        parts.http = try listen(listeners, parts.pool, parts.loads)
        parts.admin = try listenForAdmin(listeners.admin, parts.loads)
        takeover?.handover.closeRest(parts.servers.map { ($0.name, $0.listeners) })
        guard notifier.isHeard, let interval = ServiceNotifier.watchdogInterval() else { return }
        let (pool, metrics) = (parts.pool, service.metrics)
        parts.watchdog = try Watchdog(
            interval: interval, notifier: notifier, servers: parts.servers.map(\.server), logger: logger
        ) {
            let lines = metrics.batchLinesAnswered.value &+ metrics.batchLinesRefused.value
            return (pool.depth, pool.begun.value &+ lines)
        }
    }

    /// How the first load ended.
    private enum FirstLoad: Sendable {
        case ended(BundleLoads.Summary)
        /// It serves, and is to stop at once.
        case endedBySignal
        case interrupted
    }

    /// Loads on a thread of its own, so that a signal ends the process also while a large bundle is read.
    /// - Parameter wantsUpgrade: set when an upgrade is asked for as soon as the bundle serves.
    private func loadOrSignal(_ loads: BundleLoads, _ wantsUpgrade: inout Bool) throws -> FirstLoad {
        let outcome = Lock<BundleLoads.Summary?>(nil)
        _ = loads.begin(.init(path: configuration.text("bundle"))) { result in
            let summary = result.summary
            outcome.withLock { $0 = summary }
        }
        var progress = LoadProgress()
        while true {
            if let summary = outcome.withLock({ $0 }) { return .ended(summary) }
            progress.tell(notifier)
            // 10 ms: a small bundle loads in less than a person notices.
            switch try Signals.wait(within: .milliseconds(10)) {
            // The load may have published since this thread looked.
            case .terminate, .interrupt: return service.registry.isReady ? .endedBySignal : .interrupted
            case .hangUp: reload(loads)
            case .reopenLogs: service.accessLog?.reopen()
            case .upgrade where service.registry.isReady: wantsUpgrade = true
            case .upgrade: logger.warning("no upgrade before the bundle serves")
            case .woken, nil: continue
            }
        }
    }

    private func listen(
        _ listeners: Listeners, _ pool: ComputePool, _ loads: BundleLoads
    ) throws -> Upgrade.Handed {
        let counters = counters
        let handler = LoopHandler(
            service: service, pool: pool, loads: loads, openAPI: CodedContent(PackageResources.openapi_yaml),
            version: VersionAnswer(server: Self.version), startedAt: startedAt, certificates: certificates,
            counters: { counters.value })
        let service = service
        let http = HTTPServer(
            listeners: takeover?.handover.adopted(listeners.main, of: "main") ?? listeners.main,
            loops: configuration.integer("loops"),
            limits: httpLimits(), trustedPeers: listeners.trusted,
            errorResponse: { service.response(for: $0) },
            responder: { handler.handle($0, $1) })
        counters.attach(http)
        let addresses = try http.start()
        logger.info(
            "settings",
            metadata: Dictionary(
                uniqueKeysWithValues: configuration.effective.map { ($0.name, "\($0.value)") }))
        announce("listening", listeners.main, addresses)
        return Upgrade.Handed(name: "main", listeners: listeners.main, server: http)
    }

    /// The server for those who run this one; nil when it is off.
    private func listenForAdmin(_ listeners: [HTTPListener], _ loads: BundleLoads) throws -> Upgrade.Handed? {
        guard !listeners.isEmpty else { return nil }
        let service = service
        let handler = AdminHandler(service: service, loads: loads)
        let admin = HTTPServer(
            listeners: takeover?.handover.adopted(listeners, of: "admin") ?? listeners, limits: httpLimits(),
            errorResponse: { service.response(for: $0) },
            handler: { handler.handle($0, $1) })
        announce("admin listening", listeners, try admin.start())
        return Upgrade.Handed(name: "admin", listeners: listeners, server: admin)
    }

    /// Says where the server listens, in the log and on standard output.
    private func announce(_ what: String, _ listeners: [HTTPListener], _ addresses: [HTTPListener.Address]) {
        for (listener, address) in zip(listeners, addresses) {
            let isSecure = listener.tls != nil
            logger.info(
                "\(what)", metadata: ["address": "\(address)", "scheme": "\(isSecure ? "https" : "http")"])
            let scheme = address.port == nil ? "" : isSecure ? "https://" : "http://"
            StandardStream.output.write("recserver \(what) on \(scheme)\(address)\n")
        }
    }

    private func httpLimits() -> HTTPLimits {
        func milliseconds(_ name: String) -> Duration { .milliseconds(configuration.integer(name)) }
        var limits = HTTPLimits()
        limits.bodyBytesMax = configuration.integer("body_max")
        limits.bodyBytesMaxByPath = ["/events": configuration.integer("events_body_max")]
        limits.handshakeTimeout = milliseconds("tls_handshake_timeout_ms")
        limits.headTimeout = milliseconds("header_timeout_ms")
        limits.bodyTimeout = milliseconds("body_timeout_ms")
        limits.writeTimeout = milliseconds("write_timeout_ms")
        limits.idleTimeout = milliseconds("idle_timeout_ms")
        limits.connectionsMax = configuration.integer("connections_max")
        limits.connectionsPerAddressMax = configuration.integer("connections_per_address")
        limits.http2StreamsMax = configuration.integer("http2_streams_max")
        return limits
    }
}

/// The listener's counters, for handlers that are made before the listener.
final class CountersSource: Sendable {
    private let server = Lock<HTTPServer?>(nil)

    func attach(_ server: HTTPServer) { self.server.withLock { $0 = server } }
    func detach() { server.withLock { $0 = nil } }
    var value: HTTPCounters? { server.withLock { $0?.counters } }
}
