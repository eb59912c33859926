import CLinux
import Synchronization

/// Tells the service manager that started this process how it is: systemd's `sd_notify`, without its library.
///
/// One datagram a message to the socket that `NOTIFY_SOCKET` names, a path or `@` and an abstract name;
/// without the variable nothing is sent. Any thread; never waits.
public final class ServiceNotifier: Sendable {
    private let address: String?
    private let isSilent = Atomic<Bool>(false)

    /// - Parameter address: where to send; nil for nobody.
    public init(address: String? = ProcessEnvironment.value("NOTIFY_SOCKET")) {
        self.address = address
    }

    /// Whether there is somebody to tell.
    public var isHeard: Bool { address != nil }

    /// Sends `NAME=value` assignments as one message; newlines in them become spaces.
    /// - Returns: whether it was sent.
    @discardableResult
    public func send(_ assignments: String...) -> Bool {
        guard let address, !isSilent.load(ordering: .relaxed) else { return false }
        let text = assignments.map { $0.split(whereSeparator: \.isNewline).joined(separator: " ") }
            .joined(separator: "\n")
        let bytes = Array(text.utf8)
        // SAFETY: the callee reads the string and the bytes only during the call.
        return unsafe bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return false }
            return unsafe CLinux_notify(address, base, buffer.count) == 0
        }
    }

    /// Tells that another process is the service's main one, and nothing any more after that.
    public func leave(to process: Int32) {
        send("MAINPID=\(process)", "STATUS=handing over to \(process)")
        isSilent.store(true, ordering: .relaxed)
    }

    /// Nanoseconds within which the service manager wants to hear `WATCHDOG=1`; nil when it does not.
    ///
    /// `WATCHDOG_USEC` counts where `WATCHDOG_PID` is this process or missing.
    public static func watchdogInterval(
        microseconds: String? = ProcessEnvironment.value("WATCHDOG_USEC"),
        process: String? = ProcessEnvironment.value("WATCHDOG_PID")
    ) -> UInt64? {
        guard process == nil || process == String(CLinux_process_id()),
            let microseconds = microseconds.flatMap(UInt64.init), microseconds > 0,
            case let (nanoseconds, overflow) = microseconds.multipliedReportingOverflow(by: 1000), !overflow
        else { return nil }
        return nanoseconds
    }
}
