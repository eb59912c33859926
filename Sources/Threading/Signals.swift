import CLinux

/// A request of the operator to the process.
public enum Signal: Sendable, Equatable {
    /// SIGTERM: finish what is in flight, then leave.
    case terminate
    /// SIGINT: the same from a terminal.
    case interrupt
    /// SIGHUP: look for a new model.
    case hangUp
}

/// Signals as values, waited for on the main thread; no code ever runs in a signal handler.
public enum Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread and all it will start, ignores SIGPIPE and SIGXFSZ.
    ///
    /// Call on the main thread before any other thread is started.
    public static func block() throws(ThreadingError) {
        let status = CLinux_signals_block()
        guard status == 0 else { throw .system(call: "sigaction", errno: -status) }
    }

    /// The next signal; waits for ever, or for `limit` and then gives nil. A signal sent earlier is kept
    /// until asked for.
    public static func wait(within limit: Duration? = nil) throws(ThreadingError) -> Signal? {
        let timeout = limit.map { Int64(clamping: $0.nanosecondsClamped) } ?? -1
        let number = CLinux_signals_wait(timeout)
        switch number {
        case 0: return nil
        case CLinux_SIGTERM: return .terminate
        case CLinux_SIGINT: return .interrupt
        case CLinux_SIGHUP: return .hangUp
        default: throw .system(call: "sigwaitinfo", errno: -number)
        }
    }
}
