import CLinux

/// One pthread mutex with one condition: what the locks and queues of this module stand on.
@safe
final class Monitor: @unchecked Sendable {
    // Sendable because the pointer never changes and the calls behind it are thread-safe.
    private let handle: OpaquePointer

    init() {
        guard let created = unsafe CLinux_monitor_create() else {
            preconditionFailure("no memory for a mutex")
        }
        unsafe handle = created
    }

    deinit {
        // SAFETY: created in init, owned by this object alone, and nobody waits on an object being destroyed.
        unsafe CLinux_monitor_destroy(handle)
    }

    // SAFETY: for all calls below, the handle lives exactly as long as self.
    func lock() { unsafe CLinux_monitor_lock(handle) }
    func unlock() { unsafe CLinux_monitor_unlock(handle) }
    func wait() { unsafe CLinux_monitor_wait(handle) }
    func signal() { unsafe CLinux_monitor_signal(handle) }
    func broadcast() { unsafe CLinux_monitor_broadcast(handle) }

    /// Waits until woken or until the monotonic `deadline`; false when that has passed.
    func wait(until deadline: UInt64) -> Bool { unsafe CLinux_monitor_wait_until(handle, deadline) == 0 }
}
