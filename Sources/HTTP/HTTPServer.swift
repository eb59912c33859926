import Threading

/// A server of HTTP/1.1 and, to peers that begin with its preface, HTTP/2: one epoll and thread for each
/// loop, which takes connections of every listener.
///
/// The handler runs on a loop's thread and must not block: it answers at once, or hands the `Exchange` to
/// another thread. All methods may be called from any thread.
public final class HTTPServer: Sendable {
    /// Gets each request once, on a loop's thread: returns its answer, or takes the exchange out of the
    /// deferral, hands it to another thread, and returns nil.
    public typealias Handler = @Sendable (HTTPRequest, Deferral) -> HTTPResponse?

    private struct Running: Sendable {
        var threads: [NamedThread]
        var mailboxes: [Mailbox<LoopMessage>]
        /// The sockets of each listener, until the server drains.
        var sockets: [[ListeningSocket]]
        var ended: Latch
    }

    private enum State: Sendable {
        case new
        case running(Running)
        case stopped
    }

    private let listeners: [HTTPListener]
    private let cores: [Int]
    private let settings: LoopSettings
    private let loopCounters: [LoopCounters]
    private let state = Lock(State.new)

    /// A server that does nothing yet.
    ///
    /// - Parameters:
    ///   - listeners: at most 1,000.
    ///   - loops: number of loop threads, at least 1.
    ///   - cores: processors to pin the loops to, in turn; empty for none.
    ///   - trustedPeers: proxies that may say for whom they speak, by a PROXY header or `X-Forwarded-For`.
    ///   - errorResponse: the answer to what the HTTP layer refuses, and to a request whose exchange
    ///     disappeared unanswered; runs on a loop's thread. The status of the answer should be that of the
    ///     error.
    ///   - responder: answers requests, at once where it can; runs on a loop's thread.
    public init(
        listeners: [HTTPListener], loops: Int = 1, cores: [Int] = [], limits: HTTPLimits = HTTPLimits(),
        trustedPeers: TrustedPeers = TrustedPeers(),
        errorResponse: @escaping @Sendable (HTTPProtocolError) -> HTTPResponse = { .problem($0) },
        responder: @escaping Handler
    ) {
        precondition(loops >= 1, "loops \(loops) is below 1")
        precondition(listeners.count <= 1_000, "listeners \(listeners.count) are above 1,000")
        self.listeners = listeners
        self.cores = cores
        settings = LoopSettings(
            limits: limits, trustedPeers: trustedPeers, handler: responder, errorResponse: errorResponse)
        loopCounters = (0..<loops).map { _ in LoopCounters() }
    }

    /// A server whose `handler` gets each request once, with the handle to answer it; else as above.
    public convenience init(
        listeners: [HTTPListener], loops: Int = 1, cores: [Int] = [], limits: HTTPLimits = HTTPLimits(),
        trustedPeers: TrustedPeers = TrustedPeers(),
        errorResponse: @escaping @Sendable (HTTPProtocolError) -> HTTPResponse = { .problem($0) },
        handler: @escaping @Sendable (HTTPRequest, Exchange) -> Void
    ) {
        self.init(
            listeners: listeners, loops: loops, cores: cores, limits: limits, trustedPeers: trustedPeers,
            errorResponse: errorResponse,
            responder: { request, deferral in
                handler(request, deferral.exchange())
                return nil
            })
    }

    /// Listens and serves; returns where, for each listener: `.tcp` with its port, or `.unix`. Throws when an
    /// address cannot be had or the limits make no sense.
    @discardableResult
    public func start() throws(HTTPError) -> [HTTPListener.Address] {
        try settings.limits.validate()
        return try state.withLock { (state) throws(HTTPError) -> [HTTPListener.Address] in
            guard case .new = state else { throw HTTPError.alreadyStarted }
            var sockets: [[ListeningSocket]] = []
            var bound: [HTTPListener.Address] = []
            for listener in listeners {
                let (group, address) = try open(listener)
                sockets.append(group)
                bound.append(address)
            }
            state = .running(try launch(sockets))
            return bound
        }
    }

    /// Copies of the sockets of each listener, in the order of the listeners, for a process that goes on in
    /// this one's place: the caller owns them. Empty before the start and once the server drains.
    public func duplicateListeners() throws(HTTPError) -> [[Int32]] {
        try state.withLock { (state) throws(HTTPError) -> [[Int32]] in
            guard case .running(let running) = state else { return [] }
            var copies: [[Int32]] = []
            do throws(IOError) {
                for group in running.sockets {
                    copies.append([])
                    for socket in group { copies[copies.count - 1].append(try socket.duplicate()) }
                }
            } catch {
                for copy in copies.joined() { Self.close(descriptor: copy) }
                throw .system(call: error.call, errno: error.errno)
            }
            return copies
        }
    }

    /// Closes a descriptor that `duplicateListeners` gave.
    public static func close(descriptor: Int32) { _ = Socket(descriptor: descriptor) }

    /// The files of Unix sockets stay when this server ends: another process listens there.
    public func keepSocketFiles() {
        state.withLock { state in
            guard case .running(let running) = state else { return }
            for socket in running.sockets.joined() { socket.keepFile() }
        }
    }

    /// Accepts no more connections, closes idle ones, and says `Connection: close` on every answer.
    public func beginDrain() {
        state.withLock { state in
            guard case .running(var running) = state else { return }
            // The loops close the sockets, each after it has accepted what waits there.
            running.sockets = []
            state = .running(running)
            for mailbox in running.mailboxes { mailbox.send(.drain) }
        }
    }

    /// Drains, and waits until all connections are gone: false when they are not within `limit`, to ask again
    /// or to call `stop`. Not to be called from a handler.
    public func isDrained(within limit: Duration) -> Bool {
        let running = state.withLock { state -> Running? in
            guard case .running(var running) = state else { return nil }
            running.sockets = []
            state = .running(running)
            return running
        }
        guard let running else { return true }
        for mailbox in running.mailboxes { mailbox.send(.finish) }
        return running.ended.wait(within: limit)
    }

    /// Whether every loop takes its mail within `limit`, or has ended. Not to be called from a handler.
    public func answers(within limit: Duration) -> Bool {
        let loops = state.withLock { state -> (mailboxes: [Mailbox<LoopMessage>], ended: Latch)? in
            guard case .running(let running) = state else { return nil }
            return (running.mailboxes, running.ended)
        }
        guard let loops else { return true }
        let latch = Latch(count: loops.mailboxes.count)
        for mailbox in loops.mailboxes { mailbox.send(.ping(latch)) }
        return latch.wait(within: limit) || loops.ended.wait(within: .zero)
    }

    /// Drains, waits until all connections are gone or `limit` has passed, cuts what is left, and ends the
    /// threads.
    ///
    /// Returns true when nothing had to be cut. Not to be called from a handler.
    @discardableResult
    public func stop(within limit: Duration) -> Bool {
        let running = state.withLock { state -> Running? in
            guard case .running(var running) = state else { return nil }
            state = .stopped
            // As in beginDrain: the loops are to be the last owners.
            running.sockets = []
            return running
        }
        guard let running else { return true }
        for mailbox in running.mailboxes { mailbox.send(.finish) }
        let isClean = running.ended.wait(within: limit)
        if !isClean { for mailbox in running.mailboxes { mailbox.send(.abort) } }
        for thread in running.threads { thread.join() }
        return isClean
    }

    /// What has been counted since the start.
    public var counters: HTTPCounters {
        var sum = HTTPCounters()
        for counters in loopCounters { counters.add(to: &sum) }
        return sum
    }

    /// The sockets of one listener: one for each loop, or one that they share.
    private func open(
        _ listener: HTTPListener
    ) throws(HTTPError) -> (sockets: [ListeningSocket], address: HTTPListener.Address) {
        let properties = ListenerProperties(listener)
        var sockets: [ListeningSocket] = []
        do throws(IOError) {
            switch listener.address {
            case .tcp(let host, let port): sockets = try openTCP(host: host, port: port, properties)
            case .unix(let path, let mode):
                sockets = [
                    try .unix(
                        path: path, mode: mode, backlog: settings.limits.backlog,
                        removesFile: listener.removesSocketFile, properties)
                ]
            case .inherited(let descriptors):
                for descriptor in descriptors {
                    sockets.append(
                        try .inherited(descriptor, removesFile: listener.removesSocketFile, properties))
                }
            }
            guard let first = sockets.first else { throw IOError.invalid }
            return (sockets, try first.address())
        } catch {
            if error.isAddressInUse || error.isOtherFile { throw .addressInUse(listener.address) }
            guard error.isInvalid else { throw .system(call: error.call, errno: error.errno) }
            if case .tcp(let host, _) = listener.address { throw .invalidHost(host) }
            throw .invalidListener(listener.address)
        }
    }

    /// One socket for each loop, all on the same port.
    private func openTCP(
        host: String, port: UInt16, _ properties: ListenerProperties
    ) throws(IOError) -> [ListeningSocket] {
        let host = host == "localhost" ? "127.0.0.1" : host
        var bound = port
        if port != 0 {
            // Sockets that share a port do not notice another process on it, so ask without sharing first.
            _ = try ListeningSocket.tcp(host: host, port: port, sharesPort: false, backlog: 1, properties)
        }
        var sockets: [ListeningSocket] = []
        for _ in loopCounters {
            let socket = try ListeningSocket.tcp(
                host: host, port: bound, sharesPort: true, backlog: settings.limits.backlog, properties)
            sockets.append(socket)
            bound = try socket.address().port ?? bound
        }
        return sockets
    }

    /// The sockets of a listener that loop `index` watches: so that every loop has one and every socket has
    /// a loop.
    private func share(_ group: [ListeningSocket], loop index: Int) -> [ListeningSocket] {
        guard group.count > loopCounters.count else { return [group[index % group.count]] }
        return stride(from: index, to: group.count, by: loopCounters.count).map { group[$0] }
    }

    private func launch(_ sockets: [[ListeningSocket]]) throws(HTTPError) -> Running {
        let (begun, ended) = (Latch(count: loopCounters.count), Latch(count: loopCounters.count))
        var running = Running(threads: [], mailboxes: [], sockets: sockets, ended: ended)
        let settings = settings
        let failure = Lock<IOError?>(nil)
        do {
            for _ in loopCounters { running.mailboxes.append(try Mailbox()) }
            for (index, counters) in loopCounters.enumerated() {
                let mailbox = running.mailboxes[index]
                let core = cores.isEmpty ? nil : cores[index % cores.count]
                let mine = LoopListeners(sockets.flatMap { share($0, loop: index) })
                let thread = try NamedThread(name: "loop-\(index)", core: core) {
                    defer { ended.countDown() }
                    var loop: EventLoop?
                    do throws(IOError) {
                        loop = try EventLoop(
                            listeners: mine.take(), settings: settings, mailbox: mailbox, counters: counters)
                    } catch {
                        failure.withLock { $0 = error }
                    }
                    begun.countDown()
                    loop?.run()
                }
                running.threads.append(thread)
            }
        } catch {
            Self.abort(running)
            guard case .system(let call, let errno) = error else { throw .alreadyStarted }
            throw .system(call: call, errno: errno)
        }
        // A loop fails only without descriptors or memory: connections to its sockets would wait for ever.
        _ = begun.wait(within: .seconds(Int64.max))
        if let failure = failure.withLock({ $0 }) {
            Self.abort(running)
            throw .system(call: failure.call, errno: failure.errno)
        }
        return running
    }

    private static func abort(_ running: Running) {
        for mailbox in running.mailboxes { mailbox.send(.abort) }
        for thread in running.threads { thread.join() }
    }
}

/// The sockets on their way to their loop, which is to be their last owner: the thread's closure, which
/// lives as long as the thread, must not hold them.
private final class LoopListeners: Sendable {
    private let sockets: Lock<[ListeningSocket]>

    init(_ sockets: [ListeningSocket]) { self.sockets = Lock(sockets) }

    func take() -> [ListeningSocket] {
        sockets.withLock { sockets in
            defer { sockets = [] }
            return sockets
        }
    }
}
