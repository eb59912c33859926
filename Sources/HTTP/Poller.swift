import CLinux

/// One epoll instance.
struct Poller: ~Copyable {
    /// What happened to the descriptor registered under `key`.
    struct Event {
        var key: UInt64
        private var bits: UInt32

        init(key: UInt64, bits: UInt32) {
            self.key = key
            self.bits = bits
        }

        var isReadable: Bool { bits & CLinux_EPOLLIN != 0 }
        var isWritable: Bool { bits & CLinux_EPOLLOUT != 0 }
        /// The peer has sent its last byte.
        var hasEnded: Bool { bits & CLinux_EPOLLRDHUP != 0 }
        /// Both directions are gone.
        var isBroken: Bool { bits & (CLinux_EPOLLHUP | CLinux_EPOLLERR) != 0 }
    }

    private let descriptor: Int32
    /// 64: what still fits the stack without an allocation; more events come with the next call.
    private static let batch = 64

    init() throws(IOError) {
        descriptor = CLinux_epoll_create()
        guard descriptor >= 0 else { throw IOError(call: "epoll_create1", errno: -descriptor) }
    }

    deinit { _ = CLinux_close(descriptor) }

    /// Reports each change of a connection once (edge-triggered): it is registered once and never re-armed.
    func addConnection(_ fd: Int32, key: UInt64) throws(IOError) {
        try add(fd, CLinux_EPOLLIN | CLinux_EPOLLOUT | CLinux_EPOLLRDHUP | CLinux_EPOLLET, key)
    }

    /// Reports waiting connections as long as there are any; of those who wait for a shared socket's
    /// connections not all are woken for one.
    func addListener(_ fd: Int32, isShared: Bool, key: UInt64) throws(IOError) {
        try add(fd, isShared ? CLinux_EPOLLIN | CLinux_EPOLLEXCLUSIVE : CLinux_EPOLLIN, key)
    }

    /// Reports each signal once; the descriptor need not be read.
    func addWakeUp(_ fd: Int32, key: UInt64) throws(IOError) {
        try add(fd, CLinux_EPOLLIN | CLinux_EPOLLET, key)
    }

    func remove(_ fd: Int32) { _ = CLinux_epoll_remove(descriptor, fd) }

    /// Waits for events: nil for ever, 0 not at all. Replaces the content of `happened`.
    func wait(milliseconds: Int?, into happened: inout [Event]) {
        happened.removeAll(keepingCapacity: true)
        let timeout = milliseconds.map { Int32(clamping: $0) } ?? -1
        // SAFETY: the callee writes at most `batch` events into the buffer, and only those are read.
        unsafe withUnsafeTemporaryAllocation(of: CLinux_event.self, capacity: Self.batch) { buffer in
            guard let base = buffer.baseAddress else { return }
            // A failure here means a wrong descriptor; the loop goes on with its timers.
            let count = unsafe CLinux_epoll_wait(descriptor, base, Int32(Self.batch), timeout)
            for position in 0..<max(0, Int(count)) {
                unsafe happened.append(Event(key: buffer[position].key, bits: buffer[position].events))
            }
        }
    }

    private func add(_ fd: Int32, _ events: UInt32, _ key: UInt64) throws(IOError) {
        let status = CLinux_epoll_add(descriptor, fd, events, key)
        guard status == 0 else { throw IOError(call: "epoll_ctl", errno: -status) }
    }
}
