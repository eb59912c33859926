import Synchronization
import Threading

/// What reaches a loop from other threads, and from handlers on its own.
enum LoopMessage: Sendable {
    case answer(connection: UInt64, sequence: UInt64, HTTPResponse)
    /// Nobody is left to answer.
    case abandoned(connection: UInt64, sequence: UInt64)
    case drain
    /// To be counted down: the loop goes round.
    case ping(Latch)
    /// Leave as soon as the last connection has gone.
    case finish
    /// Cut everything and leave.
    case abort
}

/// A request awaiting its answer: the reply handle, which may travel to any thread.
///
/// If the last copy disappears unanswered, the client gets the server's answer to
/// `HTTPProtocolError.abandoned`, which is made on the loop's thread.
public struct Exchange: Sendable {
    private final class Reply: Sendable {
        let presence: Presence
        let answered = Atomic<Bool>(false)
        let destination: Destination

        init(presence: Presence, destination: Destination) {
            self.presence = presence
            self.destination = destination
        }

        func send(_ response: HTTPResponse) {
            guard !answered.exchange(true, ordering: .relaxed) else { return }
            switch destination {
            case .loop(let mailbox, let connection, let sequence):
                mailbox.send(.answer(connection: connection, sequence: sequence, response))
            case .closure(let receive): receive(response)
            }
        }

        deinit {
            guard !answered.load(ordering: .relaxed) else { return }
            switch destination {
            case .loop(let mailbox, let connection, let sequence):
                mailbox.send(.abandoned(connection: connection, sequence: sequence))
            case .closure(let receive): receive(.problem(.abandoned))
            }
        }
    }

    private enum Destination: Sendable {
        case loop(Mailbox<LoopMessage>, connection: UInt64, sequence: UInt64)
        case closure(@Sendable (HTTPResponse) -> Void)
    }

    private let reply: Reply

    init(mailbox: Mailbox<LoopMessage>, connection: UInt64, sequence: UInt64, presence: Presence) {
        reply = Reply(
            presence: presence, destination: .loop(mailbox, connection: connection, sequence: sequence))
    }

    /// An exchange without a connection: `receive` gets the answer, once, on the thread that responds, or
    /// `HTTPResponse.problem(.abandoned)` on the thread that drops the last copy.
    public init(receive: @escaping @Sendable (HTTPResponse) -> Void) {
        reply = Reply(presence: Presence(), destination: .closure(receive))
    }

    /// Answers; any thread. Only the first answer counts, and none once the client has gone.
    public func respond(_ response: HTTPResponse) { reply.send(response) }

    /// True once nobody can get the answer: the connection was reset, failed, or closed by the server.
    ///
    /// A client that ends its sending side may still read and is not gone. One that closes in an orderly way
    /// looks the same until something is sent to it.
    public var isClosed: Bool { reply.presence.isGone }
}

/// The way to answer a request later, offered to the handler while it runs and of no use afterwards.
public struct Deferral {
    let loop: EventLoop

    /// The reply handle of the request being handled; whoever takes it answers through it, or not at all.
    public func exchange() -> Exchange { loop.deferHanded() }
}
