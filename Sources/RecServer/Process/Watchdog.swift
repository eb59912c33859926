import HTTP
import Logging
import Threading

/// Tells the service manager that the process works, as long as it does: that every loop takes its mail and
/// that requests which wait for compute threads go on.
final class Watchdog: Sendable {
    private let isStopping = Lock(false)
    private let thread: NamedThread

    /// - Parameters:
    ///   - interval: nanoseconds within which the service manager wants to hear.
    ///   - progress: requests waiting for compute threads, and a number that grows while these work.
    init(
        interval: UInt64, notifier: ServiceNotifier, servers: [HTTPServer], logger: Logger,
        progress: @escaping @Sendable () -> (waiting: Int, done: UInt64)
    ) throws(ThreadingError) {
        let isStopping = isStopping
        thread = try NamedThread(name: "watchdog") {
            var isFed = true
            var before: UInt64?
            // At a half, so that one late word is none too many.
            while isStopping.wait(
                until: MonotonicClock.nanoseconds &+ interval / 2, for: { $0 ? true : nil }) == nil
            {
                let answer = Duration.nanoseconds(Int64(clamping: interval / 4))
                let (waiting, done) = progress()
                let computes = waiting == 0 || before.map { $0 != done } ?? true
                before = done
                let works = servers.allSatisfy { $0.answers(within: answer) } && computes
                if works { notifier.send("WATCHDOG=1") }
                if works != isFed {
                    logger.log(
                        level: works ? .notice : .critical,
                        works ? "the process works again" : "the process is stuck",
                        metadata: ["compute": "\(computes)"])
                }
                isFed = works
            }
        }
    }

    /// Ends the thread.
    func stop() {
        isStopping.withLock { $0 = true }
        isStopping.wakeAll()
        thread.join()
    }
}
