import CLinux

/// A running thread with a name, to be joined once.
///
/// Blocked signals are inherited from the thread that starts it.
public final class NamedThread: Sendable {
    /// What `ps -L` and debuggers show; the kernel keeps the first 15 bytes.
    public let name: String
    private let handle: UInt64
    private let joined = Lock(false)

    private final class Start {
        let name: String
        let core: Int?
        let body: @Sendable () -> Void
        init(name: String, core: Int?, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.core = core
            self.body = body
        }
    }

    /// Starts `body` on a new thread; throws when the system refuses one.
    ///
    /// - Parameters:
    ///   - core: the processor to stay on; a processor that does not exist is ignored.
    ///   - stackBytes: size of the stack, 0 for the system's default.
    public init(
        name: String, core: Int? = nil, stackBytes: Int = 0, body: @escaping @Sendable () -> Void
    ) throws(ThreadingError) {
        self.name = name
        let start = unsafe Unmanaged.passRetained(Start(name: name, core: core, body: body))
        var thread: UInt64 = 0
        // SAFETY: the reference retained above is handed to the thread, which takes it over at its start.
        let status = unsafe CLinux_thread_start(
            &thread, max(stackBytes, 0),
            { context in
                guard let context = unsafe context else { return nil }
                let start = unsafe Unmanaged<Start>.fromOpaque(context).takeRetainedValue()
                unsafe CLinux_thread_set_name(start.name)
                if let core = start.core { _ = CLinux_thread_pin(Int32(clamping: core)) }
                start.body()
                return nil
            }, start.toOpaque())
        guard status == 0 else {
            // SAFETY: no thread was started, so the reference is still ours to give back.
            unsafe start.release()
            throw .system(call: "pthread_create", errno: -status)
        }
        handle = thread
    }

    /// Waits until the thread has ended; later calls return at once.
    public func join() {
        joined.withLock { joined in
            guard !joined else { return }
            _ = CLinux_thread_join(handle)
            joined = true
        }
    }

    /// Processors this process may run on, at least 1.
    public static var processorCount: Int { Int(CLinux_processor_count()) }
}
