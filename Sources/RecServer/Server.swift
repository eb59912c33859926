import Artifacts
import HTTP
import Kernels
import Logging
import Threading
import UserState

/// The daemon: composition root and life cycle, listen → load → ready → drain → stop.
final class Server {
    private let configuration: Configuration
    private let logger: Logger
    private let service: RecommendService
    private let startedAt = WallClock.nanoseconds
    private let counters = CountersSource()

    /// This program's version.
    static let version = "0.1.0"

    /// A table's memory goes back when its version does; requests rarely need blocks this large.
    private static let mappedBlockBytes = 1 << 20

    init(configuration: Configuration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        let identifiers = IdentifierSource()
        let seeds = SeedSource(eventMaximum: configuration.integer("history_max"))
        service = try RecommendService(
            settings: PipelineSettings(configuration),
            keepsPrevious: configuration.text("keep_previous") == "on",
            historyBytes: configuration.integer("history_cache_bytes"),
            users: try UserStates(configuration, seed: seeds.seed, logger: logger),
            slates: Slates(
                byteLimit: configuration.integer("cursor_bytes"),
                ttlSeconds: configuration.integer("cursor_ttl_s")),
            shown: ShownItems(
                ignoredAfter: configuration.integer("ignored_after"),
                ignoredSeconds: configuration.integer("ignored_ttl_s"),
                shiftMaximum: configuration.integer("session_shift_max"),
                sessionSeconds: configuration.integer("session_ttl_s")),
            access: try Access(configuration, logger: logger),
            feedback: try FeedbackLog.begun(configuration, logger: logger),
            accessLog: try AccessLog.begun(configuration, logger: logger),
            spans: try SpanExporter.begun(configuration, identifiers: identifiers, logger: logger),
            identifiers: identifiers, logger: logger)
        seeds.attach(service.registry)
    }

    /// What runs while the daemon does.
    private struct Parts {
        let pool: ComputePool
        let loads: BundleLoads
        let http: HTTPServer
        let admin: HTTPServer?
    }

    /// Serves until a signal ends it.
    /// - Returns: the exit code: 0 after a clean drain, 1 when the start failed or requests were cut.
    func run() throws -> Int32 {
        try Signals.install()
        ProcessMemory.mapBlocks(from: Self.mappedBlockBytes)
        // Each connection is a descriptor: the soft limit of a login shell is 1,024.
        _ = ProcessStatistics.raiseFileLimit()
        let parts = try start()
        switch try loadOrSignal(parts.loads) {
        case .ended(let summary) where summary.refusal != nil:
            _ = stop(parts, after: .zero)
            _ = parts.loads.stop()
            service.reaper.stop()
            return 1
        case .ended(let summary):
            logger.info("ready", metadata: ["sha256": "\(summary.digest ?? "")"])
            try waitForEnd(parts.loads)
            return drain(parts)
        case .endedBySignal:
            return drain(parts)
        case .interrupted:
            logger.info("stopped while loading")
            _ = stop(parts, after: .zero)
            ProcessExit.immediately(0)
        }
    }

    private func start() throws -> Parts {
        let wanted = configuration.integer("compute_threads")
        let threads = wanted == 0 ? NamedThread.processorCount : wanted
        let pool = try ComputePool(
            AdmissionPolicy(configuration, threads: threads),
            niceness: configuration.integer("compute_nice"), service: service)
        let loads = try BundleLoads(service, configuration, threads: threads)
        return Parts(
            pool: pool, loads: loads, http: try listen(pool, loads), admin: try listenForAdmin(loads))
    }

    /// How the first load ended.
    private enum FirstLoad: Sendable {
        case ended(BundleLoads.Summary)
        /// It serves, and is to stop at once.
        case endedBySignal
        case interrupted
    }

    /// Loads on a thread of its own, so that a signal ends the process also while a large bundle is read.
    private func loadOrSignal(_ loads: BundleLoads) throws -> FirstLoad {
        let outcome = Lock<BundleLoads.Summary?>(nil)
        _ = loads.begin(.init(path: configuration.text("bundle"))) { result in
            let summary = result.summary
            outcome.withLock { $0 = summary }
        }
        while true {
            if let summary = outcome.withLock({ $0 }) { return .ended(summary) }
            // 10 ms: a small bundle loads in less than a person notices.
            switch try Signals.wait(within: .milliseconds(10)) {
            // The load may have published since this thread looked.
            case .terminate, .interrupt: return service.registry.isReady ? .endedBySignal : .interrupted
            case .hangUp: reload(loads)
            case .reopenLogs: service.accessLog?.reopen()
            case .upgrade, .woken, nil: continue
            }
        }
    }

    /// What SIGHUP asks for.
    private func reload(_ loads: BundleLoads) {
        service.access.reload(logger: logger)
        loads.reload()
    }

    private func listen(_ pool: ComputePool, _ loads: BundleLoads) throws -> HTTPServer {
        let counters = counters
        let handler = LoopHandler(
            service: service, pool: pool, loads: loads, openAPI: PackageResources.openapi_yaml,
            version: Self.version, startedAt: startedAt,
            counters: { counters.value })
        let service = service
        let http = HTTPServer(
            listeners: [
                HTTPListener(
                    .tcp(host: configuration.text("host"), port: UInt16(configuration.integer("port"))))
            ],
            loops: configuration.integer("loops"),
            limits: httpLimits(), errorResponse: { service.response(for: $0) },
            handler: { handler.handle($0, $1) })
        counters.attach(http)
        let port = try http.start().first?.port ?? 0
        logger.info(
            "settings",
            metadata: Dictionary(
                uniqueKeysWithValues: configuration.effective.map { ($0.name, "\($0.value)") }))
        logger.info("listening", metadata: ["host": "\(configuration.text("host"))", "port": "\(port)"])
        StandardStream.output.write("recserver listening on http://\(configuration.text("host")):\(port)\n")
        return http
    }

    /// The listener for those who run the server; nil when it is off.
    private func listenForAdmin(_ loads: BundleLoads) throws -> HTTPServer? {
        guard let wanted = UInt16(exactly: configuration.integer("admin_port")) else { return nil }
        let (host, service) = (configuration.text("admin_host"), service)
        let handler = AdminHandler(service: service, loads: loads)
        let admin = HTTPServer(
            listeners: [HTTPListener(.tcp(host: host, port: wanted))], limits: httpLimits(),
            errorResponse: { service.response(for: $0) },
            handler: { handler.handle($0, $1) })
        let port = try admin.start().first?.port ?? 0
        logger.info("admin listening", metadata: ["host": "\(host)", "port": "\(port)"])
        StandardStream.output.write("recserver admin listening on http://\(host):\(port)\n")
        return admin
    }

    private func httpLimits() -> HTTPLimits {
        func milliseconds(_ name: String) -> Duration { .milliseconds(configuration.integer(name)) }
        var limits = HTTPLimits()
        limits.bodyBytesMax = configuration.integer("body_max")
        limits.bodyBytesMaxByPath = ["/events": configuration.integer("events_body_max")]
        limits.headTimeout = milliseconds("header_timeout_ms")
        limits.bodyTimeout = milliseconds("body_timeout_ms")
        limits.writeTimeout = milliseconds("write_timeout_ms")
        limits.idleTimeout = milliseconds("idle_timeout_ms")
        limits.connectionsMax = configuration.integer("connections_max")
        return limits
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP has the keys file and the bundle's folder looked at again.
    private func waitForEnd(_ loads: BundleLoads) throws {
        while true {
            switch try Signals.wait() {
            case .hangUp: reload(loads)
            case .terminate, .interrupt: return
            case .reopenLogs: service.accessLog?.reopen()
            case .upgrade, .woken, nil: continue
            }
        }
    }

    /// Serves on for the drain delay; a second SIGTERM or SIGINT cuts it short.
    private func waitForDelay() {
        let end = MonotonicClock.now + .milliseconds(configuration.integer("drain_delay_ms"))
        while case let rest = end - MonotonicClock.now, rest > .zero {
            switch try? Signals.wait(within: rest) {
            case .terminate, .interrupt: return
            case .reopenLogs: service.accessLog?.reopen()
            case .hangUp, .upgrade, .woken, nil: continue
            }
        }
    }

    private func drain(_ parts: Parts) -> Int32 {
        service.beginDraining()
        logger.info("draining")
        waitForDelay()
        let isClean = stop(parts, after: .milliseconds(configuration.integer("drain_limit_ms")))
        logger.info("stopped", metadata: ["clean": "\(isClean)"])
        // A load cannot be cut short: it is inside FAISS or BLAS, whose destructors must not run under it.
        guard parts.loads.stop() else { ProcessExit.immediately(isClean ? 0 : 1) }
        service.reaper.stop()
        return isClean ? 0 : 1
    }

    /// Ends listeners and compute threads; false when requests were cut.
    private func stop(_ parts: Parts, after limit: Duration) -> Bool {
        // The server's handler holds the counters, which hold the server.
        defer { counters.detach() }
        parts.http.beginDrain()
        let isClean = parts.http.stop(within: limit)
        parts.admin?.stop(within: .zero)
        parts.pool.stop()
        // What was posted is durable before the process ends.
        service.users?.stop()
        service.feedback?.stop()
        service.accessLog?.stop()
        service.spans?.stop()
        return isClean
    }
}

/// The listener's counters, for handlers that are made before the listener.
private final class CountersSource: Sendable {
    private let server = Lock<HTTPServer?>(nil)

    func attach(_ server: HTTPServer) { self.server.withLock { $0 = server } }
    func detach() { server.withLock { $0 = nil } }
    var value: HTTPCounters? { server.withLock { $0?.counters } }
}
