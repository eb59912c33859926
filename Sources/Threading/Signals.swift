import CLinux

/// A request of the operator to the process.
public enum Signal: Sendable, Equatable {
    /// SIGTERM: finish what is in flight, then leave.
    case terminate
    /// SIGINT: the same from a terminal.
    case interrupt
    /// SIGHUP: look for a new model.
    case hangUp
    /// SIGUSR1: open log files again.
    case reopenLogs
    /// SIGUSR2: hand over to a new process.
    case upgrade
    /// No signal: `Signals.wake` was called.
    case woken
}

/// Signals as values, counted by handlers and waited for on the main thread; no Swift runs in a handler.
///
/// It does not matter which thread a signal is delivered to, nor when that thread was started.
public enum Signals {
    /// Counts SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 from here on, ignores SIGPIPE and SIGXFSZ.
    ///
    /// Call early on the main thread: a signal before this call ends the process. Calling again is harmless.
    /// From then on signals interrupt system calls: what the kernel restarts goes on (SA_RESTART), the waits
    /// in this module and in epoll go on by themselves.
    public static func install() throws(ThreadingError) {
        let status = CLinux_signals_install()
        guard status == 0 else { throw .system(call: "sigaction", errno: -status) }
    }

    /// The next signal; waits for ever, or for `limit` and then gives nil. One thread at a time.
    ///
    /// Every delivered signal is given once, also one that came before the call; SIGTERM goes before SIGINT
    /// and both before any number of SIGHUPs, then come SIGUSR1 and SIGUSR2. Throws before `install`.
    public static func wait(within limit: Duration? = nil) throws(ThreadingError) -> Signal? {
        let timeout = limit.map { Int64(clamping: $0.nanosecondsClamped) } ?? -1
        let number = CLinux_signals_wait(timeout)
        switch number {
        case 0: return nil
        case CLinux_SIGTERM: return .terminate
        case CLinux_SIGINT: return .interrupt
        case CLinux_SIGHUP: return .hangUp
        case CLinux_SIGUSR1: return .reopenLogs
        case CLinux_SIGUSR2: return .upgrade
        case Int32(CLinux_woken): return .woken
        default: throw .system(call: "ppoll", errno: -number)
        }
    }

    /// Lets `wait` give `.woken` once, after all signals; any thread.
    public static func wake() { CLinux_signals_wake() }
}
