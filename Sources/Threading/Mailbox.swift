import CLinux
import Synchronization

/// Messages from any thread to one event loop, which sleeps in epoll on `wakeUpDescriptor`.
///
/// A sender wakes the loop only when the loop said that it is about to sleep, and only once: messages sent
/// while the loop is awake, or from the loop itself, cost a lock and no system call. The descriptor is
/// watched edge-triggered and never read. The number of messages is bounded by what the senders were admitted
/// to send (one per request).
public final class Mailbox<Message: Sendable>: @unchecked Sendable {
    // Sendable because `messages` is touched only while `monitor` is locked.
    private let monitor = Monitor()
    private var messages: [Message] = []
    // Each side writes its own of these two, then reads the other's: in one order for all threads, so that
    // one of them sees what the other did.
    private let isReceiverAsleep = Atomic<Bool>(false)
    private let hasMessages = Atomic<Bool>(false)

    /// Becomes readable (an edge) when the sleeping loop has to wake; owned by the mailbox.
    public let wakeUpDescriptor: Int32

    /// An empty mailbox; throws when no descriptor is left.
    public init() throws(ThreadingError) {
        let fd = CLinux_eventfd()
        guard fd >= 0 else { throw .system(call: "eventfd", errno: -fd) }
        wakeUpDescriptor = fd
    }

    deinit { _ = CLinux_close(wakeUpDescriptor) }

    /// Leaves `message` for the loop; any thread, never waits for the loop.
    public func send(_ message: Message) {
        monitor.lock()
        messages.append(message)
        hasMessages.store(true, ordering: .sequentiallyConsistent)
        monitor.unlock()
        guard isReceiverAsleep.load(ordering: .sequentiallyConsistent),
            isReceiverAsleep.exchange(false, ordering: .sequentiallyConsistent)
        else { return }
        // A signal that is lost would leave the loop asleep over its mail.
        for _ in 0..<3 where CLinux_eventfd_signal(wakeUpDescriptor) == 0 { return }
    }

    /// The loop is about to sleep: true when it may, false when there is mail. Loop thread only.
    public func prepareToSleep() -> Bool {
        isReceiverAsleep.store(true, ordering: .sequentiallyConsistent)
        guard hasMessages.load(ordering: .sequentiallyConsistent) else { return true }
        isReceiverAsleep.store(false, ordering: .relaxed)
        return false
    }

    /// The loop is awake again, senders need not wake it. Loop thread only.
    public func didWake() { isReceiverAsleep.store(false, ordering: .relaxed) }

    /// False when `drain` would find nothing. Loop thread only.
    public var hasMail: Bool { hasMessages.load(ordering: .acquiring) }

    /// Moves all mail, oldest first, into the empty `batch`; its storage is kept for later mail. Loop thread
    /// only.
    public func drain(into batch: inout [Message]) {
        guard hasMessages.load(ordering: .acquiring) else { return }
        monitor.lock()
        swap(&messages, &batch)
        hasMessages.store(false, ordering: .relaxed)
        monitor.unlock()
    }
}
