import HTTP
import Logging
import Threading
import UserState

/// Starts this program anew and hands the listening sockets over to it, once it has loaded its bundle; goes
/// on serving when that fails.
final class Upgrade: Sendable {
    /// A server whose sockets are handed over.
    struct Handed: Sendable {
        let name: String
        let listeners: [HTTPListener]
        let server: HTTPServer
    }

    private enum State: Sendable, Equatable {
        case idle
        case running
        /// The new process serves.
        case done
    }

    private struct Failure: Error, CustomStringConvertible { let description: String }

    private let state = Lock(State.idle)
    private let isCancelled = Lock(false)
    private let thread = Lock<NamedThread?>(nil)
    private let servers: [Handed]
    private let users: UserStates?
    private let notifier: ServiceNotifier
    private let logger: Logger
    private let limit: Duration
    private let failures: Counter
    /// Both ends' fate hangs on it: it closes with this process.
    private let channel = Lock<ProcessChannel?>(nil)

    /// How long the new process may take to begin to listen, and to end when it is told to.
    private static let patience = Duration.seconds(10)
    private static let slice = Duration.milliseconds(50)

    /// - Parameters:
    ///   - limit: for the new process to load its bundle.
    ///   - failures: counts upgrades that failed.
    init(
        _ servers: [Handed], users: UserStates?, notifier: ServiceNotifier, limit: Duration,
        failures: Counter, logger: Logger
    ) {
        self.servers = servers
        self.users = users
        self.notifier = notifier
        self.limit = limit
        self.failures = failures
        self.logger = logger
    }

    /// Whether a new process serves in this one's place.
    var isDone: Bool { state.withLock { $0 == .done } }

    /// Begins, unless it has begun already; `Signals.wake` tells that the new process serves.
    func begin() {
        let isFirst = state.withLock { state in
            guard state == .idle else { return false }
            state = .running
            return true
        }
        guard isFirst else { return logger.warning("an upgrade is under way") }
        thread.withLock { $0 }?.join()
        do throws(ThreadingError) {
            let started = try NamedThread(name: "upgrade") { [self] in run() }
            thread.withLock { $0 = started }
        } catch {
            fail("\(error)")
        }
    }

    /// Gives up what has begun, and waits for its end.
    func cancel() {
        isCancelled.withLock { $0 = true }
        thread.withLock { $0 }?.join()
    }

    private func fail(_ reason: String) {
        failures.add()
        logger.error("the upgrade failed, this process goes on", metadata: ["reason": "\(reason)"])
        state.withLock { $0 = .idle }
    }

    private func run() {
        do throws(Failure) {
            let (child, ours) = try start()
            logger.info("a new process loads", metadata: ["pid": "\(child.id)"])
            var isShared = false
            do throws(Failure) {
                try wait(for: .loaded, from: ours, child, within: limit)
                // From here on nothing is answered from memory that the other process may have changed.
                users?.share()
                isShared = true
                ours.send(Handover.Message.serve.rawValue)
                try wait(for: .serves, from: ours, child, within: Self.patience)
            } catch {
                end(child)
                if isShared { users?.own() }
                throw error
            }
            notifier.leave(to: child.id)
            ours.send(Handover.Message.isMain.rawValue)
            for handed in servers { handed.server.keepSocketFiles() }
            channel.withLock { $0 = ours }
            logger.info("the new process serves", metadata: ["pid": "\(child.id)"])
            state.withLock { $0 = .done }
            Signals.wake()
        } catch {
            fail(error.description)
        }
    }

    private func start() throws(Failure) -> (ChildProcess, ProcessChannel) {
        guard ChildProcess.ownID != 1 else {
            throw Failure(description: "this is the container's first process, with which it ends")
        }
        var copies: [Int32] = []
        // The new process has its own by then.
        defer { for copy in copies { HTTPServer.close(descriptor: copy) } }
        do {
            var listening: [Handover.Listening] = []
            for handed in servers {
                let groups = try handed.server.duplicateListeners()
                copies += groups.joined()
                for (listener, group) in zip(handed.listeners, groups) {
                    listening.append(
                        .init(
                            server: handed.name, address: Handover.name(of: listener),
                            descriptors: group))
                }
            }
            let (ours, theirs) = try ProcessChannel.pair()
            let handover = Handover(
                parent: ChildProcess.ownID, channel: theirs.descriptor, stateLock: users?.lock,
                listening: listening)
            let child = try withExtendedLifetime(theirs) {
                try ChildProcess(
                    path: ProcessEnvironment.programPath, arguments: CommandLine.arguments,
                    environment: handover.environment(), descriptors: handover.descriptors)
            }
            return (child, ours)
        } catch {
            throw Failure(description: "\(ProcessEnvironment.programPath): \(error)")
        }
    }

    private func wait(
        for message: Handover.Message, from channel: ProcessChannel, _ child: ChildProcess,
        within limit: Duration
    ) throws(Failure) {
        let end = MonotonicClock.now + limit
        while MonotonicClock.now < end {
            if isCancelled.withLock({ $0 }) { throw Failure(description: "this process ends") }
            switch channel.receive(within: Self.slice) {
            case .byte(message.rawValue): return
            case .byte: throw Failure(description: "the new process is another program")
            case .end: throw Failure(description: "the new process has ended, see its lines above")
            case .nothingYet: if child.hasEnded { throw Failure(description: "the new process has ended") }
            }
        }
        throw Failure(description: "the new process took longer than \(limit)")
    }

    /// Ends the new process, and waits for that: the user state is this one's alone afterwards.
    private func end(_ child: ChildProcess) {
        child.end()
        let limit = MonotonicClock.now + Self.patience
        while !child.hasEnded {
            if MonotonicClock.now >= limit { child.end(atOnce: true) }
            let pause = MonotonicClock.nanoseconds &+ Self.slice.nanosecondsClamped
            _ = isCancelled.wait(until: pause) { _ in nil as Bool? }
        }
    }
}
