/// What can fail when the system is asked for a thread, a wake-up descriptor or a signal.
public enum ThreadingError: Error, Equatable, Sendable {
    /// The system refused `call` with this errno value.
    case system(call: String, errno: Int32)
}
