import HTTP
import Logging
import Threading
import UserState

// From the first request to the last: signals, and the ways to end.
extension Server {
    /// Waits for SIGTERM or SIGINT, or for another process that serves in this one's place.
    func waitForEnd(_ loads: BundleLoads, _ upgrade: Upgrade) throws {
        while true {
            switch try Signals.wait() {
            case .hangUp: reload(loads)
            case .terminate, .interrupt:
                upgrade.cancel()
                return
            case .reopenLogs: service.accessLog?.reopen()
            case .upgrade: begin(upgrade)
            case .woken:
                if upgrade.isDone { return }
                let isDue = upgradeIsWanted.withLock { wanted in
                    defer { wanted = false }
                    return wanted
                }
                if isDue { begin(upgrade) }
            case nil: continue
            }
        }
    }

    /// What SIGUSR2 asks for. Two processes share the user state, never three.
    func begin(_ upgrade: Upgrade) {
        upgradeIsWanted.withLock { $0 = true }
        guard takeover?.isOver ?? true else {
            return logger.info("the upgrade begins when the process that was here before has ended")
        }
        upgradeIsWanted.withLock { $0 = false }
        upgrade.begin()
    }

    /// What SIGHUP asks for.
    func reload(_ loads: BundleLoads) {
        notifier.send(
            "RELOADING=1", "MONOTONIC_USEC=\(MonotonicClock.nanoseconds / 1000)", "STATUS=reloading")
        service.access.reload(logger: logger)
        certificates?.reload(logger: logger)
        loads.reload { [self] in if service.registry.isReady, !service.isDraining { notifyReady() } }
    }

    /// Tells the service manager that requests are answered, and by what.
    func notifyReady() {
        let model = service.registry.assignment(.default)?.bundle.modelVersion ?? ""
        notifier.send("READY=1", "MAINPID=\(ChildProcess.ownID)", "STATUS=serving \(model)")
    }

    /// Ends after a signal: serves on for the drain delay, accepts no more, and finishes what is in flight.
    /// Each further SIGTERM or SIGINT cuts one of the two short.
    func drain(_ parts: Parts) -> Int32 {
        service.beginDraining()
        notifier.send("STOPPING=1", "STATUS=draining")
        logger.info("draining")
        _ = waitForSignal(until: MonotonicClock.now + milliseconds("drain_delay_ms"))
        return end(parts)
    }

    /// Ends because another process serves: `/readyz` stays as it is, for it is asked by who asks the other
    /// process next.
    func leave(_ parts: Parts) -> Int32 {
        logger.info("leaving")
        return end(parts)
    }

    /// Ends without having served.
    func giveUp(_ parts: Parts) -> Int32 {
        _ = stop(parts, after: .zero)
        _ = parts.loads.stop()
        service.reaper.stop()
        return 1
    }

    private func end(_ parts: Parts) -> Int32 {
        let isClean = stop(parts, after: milliseconds("drain_limit_ms"))
        logger.info("stopped", metadata: ["clean": "\(isClean)"])
        // A load cannot be cut short: it is inside FAISS or BLAS, whose destructors must not run under it.
        guard parts.loads.stop() else { ProcessExit.immediately(isClean ? 0 : 1) }
        service.reaper.stop()
        return isClean ? 0 : 1
    }

    /// Ends listeners and compute threads; false when requests were cut.
    func stop(_ parts: Parts, after limit: Duration) -> Bool {
        // The server's handler holds the counters, which hold the server.
        defer { counters.detach() }
        parts.http?.server.beginDrain()
        let end = MonotonicClock.now + limit
        while MonotonicClock.now < end, !(parts.http?.server.isDrained(within: .zero) ?? true) {
            if waitForSignal(until: min(end, MonotonicClock.now + .milliseconds(10))) { break }
        }
        let isClean = parts.http?.server.stop(within: .zero) ?? true
        parts.admin?.server.stop(within: .zero)
        parts.pool.stop()
        // What was posted is durable before the process ends.
        service.users?.stop()
        service.feedback?.stop()
        service.accessLog?.stop()
        service.spans?.stop()
        parts.watchdog?.stop()
        return isClean
    }

    private func milliseconds(_ name: String) -> Duration { .milliseconds(configuration.integer(name)) }

    /// Waits for a moment; true when SIGTERM or SIGINT came before it.
    private func waitForSignal(until end: Duration) -> Bool {
        while case let rest = end - MonotonicClock.now, rest > .zero {
            switch try? Signals.wait(within: rest) {
            case .terminate, .interrupt: return true
            case .reopenLogs: service.accessLog?.reopen()
            case .hangUp, .upgrade, .woken, nil: continue
            }
        }
        return false
    }
}

/// Tells the service manager how the first load goes, and that it may take longer while it does go on.
struct LoadProgress {
    private let begun = MonotonicClock.now
    private var told = Duration.zero
    private var processorTime = Duration.zero
    private var residentBytes = 0

    /// Between two messages, and how long each lets the service manager wait.
    private static let interval = Duration.seconds(5)
    private static let extended = Duration.seconds(30)
    /// Less work than this in an interval is none.
    private static let processorMinimum = Duration.milliseconds(200)
    private static let residentMinimum = 1 << 20

    /// Sends a message, if it is time for one.
    mutating func tell(_ notifier: ServiceNotifier) {
        let now = MonotonicClock.now
        guard notifier.isHeard, now - begun >= told else { return }
        told = now - begun + Self.interval
        let (processor, resident) = (
            ProcessStatistics.processorTime, ProcessStatistics.residentByteCount ?? 0
        )
        let isMoving =
            processor - processorTime >= Self.processorMinimum
            || abs(resident - residentBytes) >= Self.residentMinimum
        (processorTime, residentBytes) = (processor, resident)
        let title = ProgressLine.latest.withLock { $0 }
        let seconds = (now - begun).components.seconds
        let status = "STATUS=loading\(title.isEmpty ? "" : ": \(title)"), \(seconds) s"
        if isMoving {
            notifier.send("EXTEND_TIMEOUT_USEC=\(Self.extended.nanosecondsClamped / 1000)", status)
        } else {
            notifier.send(status)
        }
    }
}
