import Logging
import Threading
import UserState

/// The new process's side of a handover.
final class Takeover: Sendable {
    let handover: Handover
    private let channel: ProcessChannel
    private let logger: Logger
    private let thread = Lock<NamedThread?>(nil)
    private let over = Lock(false)

    /// How long the old process may take for what is a matter of microseconds.
    private static let patience = Duration.seconds(10)
    private static let slice = Duration.milliseconds(50)

    init(_ handover: Handover, logger: Logger) {
        self.handover = handover
        channel = ProcessChannel(descriptor: handover.channel)
        self.logger = logger
    }

    /// Whether the old process has ended.
    var isOver: Bool { over.withLock { $0 } }

    /// Tells the old process that the bundle is loaded.
    /// - Returns: whether this process is to serve.
    func isToServe() -> Bool {
        channel.send(Handover.Message.loaded.rawValue)
        return answer() == .byte(Handover.Message.serve.rawValue)
    }

    /// What the old process says in its time; a signal may end a wait early.
    private func answer() -> ProcessChannel.Message {
        let end = MonotonicClock.now + Self.patience
        while MonotonicClock.now < end {
            let reception = channel.receive(within: Self.slice)
            if reception != .nothingYet { return reception }
        }
        return .nothingYet
    }

    /// Tells the old process that this one serves, and has user state to itself once that one has ended.
    /// - Parameter ended: called then, on another thread.
    /// - Returns: false where the old process has given this one up.
    func serves(
        _ users: UserStates?, ended: @escaping @Sendable () -> Void
    ) throws(ThreadingError) -> Bool {
        let (channel, logger, parent, over) = (channel, logger, handover.parent, self.over)
        let isMain = Latch(count: 1)
        let waiting = try NamedThread(name: "takeover") {
            _ = isMain.wait(within: .seconds(Int64.max))
            while channel.receive() != .end { continue }
            users?.own()
            ended()
            over.withLock { $0 = true }
            Signals.wake()
            logger.info("the old process has ended", metadata: ["pid": "\(parent)"])
        }
        thread.withLock { $0 = waiting }
        defer { isMain.countDown() }
        channel.send(Handover.Message.serves.rawValue)
        return answer() != .nothingYet
    }
}
