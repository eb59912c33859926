import Logging
import Threading
import UserState

/// The new process's side of a handover.
final class Takeover: Sendable {
    let handover: Handover
    private let channel: ProcessChannel
    private let logger: Logger
    private let thread = Lock<NamedThread?>(nil)

    /// How long the old process may take for what is a matter of microseconds.
    private static let patience = Duration.seconds(10)

    init(_ handover: Handover, logger: Logger) {
        self.handover = handover
        channel = ProcessChannel(descriptor: handover.channel)
        self.logger = logger
    }

    /// Tells the old process that the bundle is loaded.
    /// - Returns: whether this process is to serve.
    func isToServe() -> Bool {
        channel.send(Handover.Message.loaded.rawValue)
        return channel.receive(within: Self.patience) == .byte(Handover.Message.serve.rawValue)
    }

    /// Tells the old process that this one serves, and has user state to itself once that one has ended.
    func serves(_ users: UserStates?) throws(ThreadingError) {
        channel.send(Handover.Message.serves.rawValue)
        _ = channel.receive(within: Self.patience)
        let (channel, logger, parent) = (channel, logger, handover.parent)
        let waiting = try NamedThread(name: "takeover") {
            while channel.receive() != .end { continue }
            users?.own()
            logger.info("the old process has ended", metadata: ["pid": "\(parent)"])
        }
        thread.withLock { $0 = waiting }
    }
}
