internal import Glibc

/// The end of the process from inside.
public enum ProcessExit {
    /// Ends the process at once with `code`, of which the parent sees the low 8 bits.
    ///
    /// Runs no exit handlers and no destructors and flushes nothing: for leaving while another thread is
    /// inside a library, whose state such handlers would destroy under it. Any thread.
    public static func immediately(_ code: Int32) -> Never { _exit(code) }
}
