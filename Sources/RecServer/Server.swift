import Artifacts
import HTTP
import Kernels
import Logging
import Threading

/// The daemon: composition root and life cycle, listen → load → ready → drain → stop.
final class Server {
    private let configuration: Configuration
    private let logger: Logger
    private let service: RecommendService
    private let startedAt = WallClock.nanoseconds
    private let counters = CountersSource()

    /// This program's version.
    static let version = "0.1.0"

    init(configuration: Configuration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        service = RecommendService(settings: PipelineSettings(configuration), logger: logger)
    }

    /// Serves until a signal ends it.
    /// - Returns: the exit code: 0 after a clean drain, 1 when the start failed or requests were cut.
    func run() throws -> Int32 {
        try Signals.install()
        // Each connection is a descriptor: the soft limit of a login shell is 1,024.
        _ = ProcessStatistics.raiseFileLimit()
        let wanted = configuration.integer("compute_threads")
        let pool = try ComputePool(
            count: wanted == 0 ? NamedThread.processorCount : wanted,
            queueDepth: configuration.integer("queue_depth"), service: service)
        let http = try listen(pool)
        switch try loadOrSignal() {
        case .loaded(let snapshot):
            service.publish(snapshot)
            logger.info(
                "ready",
                metadata: [
                    "model_version": "\(snapshot.manifest.modelVersion)",
                    "items": "\(snapshot.manifest.items.count)",
                    "index": "\(snapshot.indexName)",
                ])
            try waitForEnd()
            return drain(http, pool)
        case .refused(let reason):
            logger.error(
                "the bundle was refused",
                metadata: ["bundle": "\(configuration.text("bundle"))", "reason": "\(reason)"])
            http.stop(within: .zero)
            pool.stop()
            return 1
        case .interrupted:
            logger.info("stopped while loading")
            http.stop(within: .zero)
            pool.stop()
            // The loading thread is inside FAISS or BLAS, whose destructors must not run under it.
            ProcessExit.immediately(0)
        }
    }

    /// How a load ended.
    private enum LoadOutcome: Sendable {
        case loaded(Snapshot)
        case refused(String)
        case interrupted
    }

    /// Loads on a thread of its own, so that a signal ends the process also while a large bundle is read.
    private func loadOrSignal() throws -> LoadOutcome {
        let outcome = Lock<LoadOutcome?>(nil)
        let loader = SnapshotLoader(configuration: configuration, logger: logger)
        let path = configuration.text("bundle")
        let thread = try NamedThread(name: "load") {
            do {
                let snapshot = try loader.load(path)
                outcome.withLock { $0 = .loaded(snapshot) }
            } catch {
                outcome.withLock { $0 = .refused("\(error)") }
            }
        }
        while true {
            if let outcome = outcome.withLock({ $0 }) {
                thread.join()
                return outcome
            }
            // 10 ms: a small bundle loads in less than a person notices.
            switch try Signals.wait(within: .milliseconds(10)) {
            case .terminate, .interrupt: return .interrupted
            case .hangUp, nil: continue
            }
        }
    }

    private func listen(_ pool: ComputePool) throws -> HTTPServer {
        let counters = counters
        let handler = LoopHandler(
            service: service, pool: pool, openAPI: PackageResources.openapi_yaml, version: Self.version,
            startedAt: startedAt,
            counters: { counters.value })
        let service = service
        let http = HTTPServer(
            host: configuration.text("host"), port: UInt16(configuration.integer("port")),
            loops: configuration.integer("loops"),
            limits: httpLimits(), errorResponse: { service.response(for: $0) },
            handler: { handler.handle($0, $1) })
        counters.attach(http)
        let port = try http.start()
        logger.info(
            "settings",
            metadata: Dictionary(
                uniqueKeysWithValues: configuration.effective.map { ($0.name, "\($0.value)") }))
        logger.info("listening", metadata: ["host": "\(configuration.text("host"))", "port": "\(port)"])
        StandardStream.output.write("recserver listening on http://\(configuration.text("host")):\(port)\n")
        return http
    }

    private func httpLimits() -> HTTPLimits {
        func milliseconds(_ name: String) -> Duration { .milliseconds(configuration.integer(name)) }
        var limits = HTTPLimits()
        limits.bodyBytesMax = configuration.integer("body_max")
        limits.headTimeout = milliseconds("header_timeout_ms")
        limits.bodyTimeout = milliseconds("body_timeout_ms")
        limits.writeTimeout = milliseconds("write_timeout_ms")
        limits.idleTimeout = milliseconds("idle_timeout_ms")
        limits.connectionsMax = configuration.integer("connections_max")
        return limits
    }

    /// Waits for SIGTERM or SIGINT. SIGHUP changes nothing: a new bundle needs a new process.
    private func waitForEnd() throws {
        while true {
            switch try Signals.wait() {
            case .hangUp: logger.warning("SIGHUP ignored: restart to switch the bundle")
            case .terminate, .interrupt: return
            case nil: continue
            }
        }
    }

    /// Serves on for the drain delay; a second SIGTERM or SIGINT cuts it short.
    private func waitForDelay() {
        let end = MonotonicClock.now + .milliseconds(configuration.integer("drain_delay_ms"))
        while case let rest = end - MonotonicClock.now, rest > .zero {
            switch try? Signals.wait(within: rest) {
            case .terminate, .interrupt: return
            case .hangUp, nil: continue
            }
        }
    }

    private func drain(_ http: HTTPServer, _ pool: ComputePool) -> Int32 {
        // The server's handler holds the counters, which hold the server.
        defer { counters.detach() }
        service.beginDraining()
        logger.info("draining")
        waitForDelay()
        http.beginDrain()
        let isClean = http.stop(within: .milliseconds(configuration.integer("drain_limit_ms")))
        pool.stop()
        logger.info("stopped", metadata: ["clean": "\(isClean)"])
        return isClean ? 0 : 1
    }
}

/// The listener's counters, for handlers that are made before the listener.
private final class CountersSource: Sendable {
    private let server = Lock<HTTPServer?>(nil)

    func attach(_ server: HTTPServer) { self.server.withLock { $0 = server } }
    func detach() { server.withLock { $0 = nil } }
    var value: HTTPCounters? { server.withLock { $0?.counters } }
}
