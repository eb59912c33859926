import Threading

/// An HTTP/1.1 server: one listener, epoll and thread for each loop.
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
        var ended: Latch
    }

    private enum State: Sendable {
        case new
        case running(Running)
        case stopped
    }

    private let host: String
    private let port: UInt16
    private let cores: [Int]
    private let settings: LoopSettings
    private let loopCounters: [LoopCounters]
    private let state = Lock(State.new)

    /// A server that does nothing yet.
    ///
    /// - Parameters:
    ///   - host: a numeric IPv4 or IPv6 address, or `localhost`.
    ///   - port: 0 picks a free one.
    ///   - loops: number of loop threads, at least 1.
    ///   - cores: processors to pin the loops to, in turn; empty for none.
    ///   - errorResponse: the answer to what the HTTP layer refuses, and to a request whose exchange
    ///     disappeared unanswered; runs on a loop's thread. The status of the answer should be that of the
    ///     error.
    ///   - responder: answers requests, at once where it can; runs on a loop's thread.
    public init(
        host: String, port: UInt16, loops: Int = 1, cores: [Int] = [], limits: HTTPLimits = HTTPLimits(),
        errorResponse: @escaping @Sendable (HTTPProtocolError) -> HTTPResponse = { .problem($0) },
        responder: @escaping Handler
    ) {
        precondition(loops >= 1, "loops \(loops) is below 1")
        self.host = host == "localhost" ? "127.0.0.1" : host
        self.port = port
        self.cores = cores
        settings = LoopSettings(limits: limits, handler: responder, errorResponse: errorResponse)
        loopCounters = (0..<loops).map { _ in LoopCounters() }
    }

    /// A server whose `handler` gets each request once, with the handle to answer it; else as above.
    public convenience init(
        host: String, port: UInt16, loops: Int = 1, cores: [Int] = [], limits: HTTPLimits = HTTPLimits(),
        errorResponse: @escaping @Sendable (HTTPProtocolError) -> HTTPResponse = { .problem($0) },
        handler: @escaping @Sendable (HTTPRequest, Exchange) -> Void
    ) {
        self.init(
            host: host, port: port, loops: loops, cores: cores, limits: limits, errorResponse: errorResponse,
            responder: { request, deferral in
                handler(request, deferral.exchange())
                return nil
            })
    }

    /// Listens and serves; returns the port. Throws when the address cannot be had or the limits make no
    /// sense.
    public func start() throws(HTTPError) -> UInt16 {
        try settings.limits.validate()
        return try state.withLock { (state) throws(HTTPError) -> UInt16 in
            guard case .new = state else { throw HTTPError.alreadyStarted }
            let (listeners, bound) = try listen()
            let running = try launch(listeners)
            state = .running(running)
            return bound
        }
    }

    /// Accepts no more connections, closes idle ones, and says `Connection: close` on every answer.
    public func beginDrain() { send(.drain) }

    /// Drains, waits until all connections are gone or `limit` has passed, cuts what is left, and ends the
    /// threads.
    ///
    /// Returns true when nothing had to be cut. Not to be called from a handler.
    @discardableResult
    public func stop(within limit: Duration) -> Bool {
        let running = state.withLock { state -> Running? in
            guard case .running(let running) = state else { return nil }
            state = .stopped
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

    private func send(_ message: LoopMessage) {
        state.withLock { state in
            guard case .running(let running) = state else { return }
            for mailbox in running.mailboxes { mailbox.send(message) }
        }
    }

    /// One listener for each loop, all on the same port.
    private func listen() throws(HTTPError) -> (descriptors: [Int32], port: UInt16) {
        var descriptors: [Int32] = []
        var bound = port
        do {
            if port != 0 {
                // Sockets that share a port do not notice another process on it, so ask without sharing
                // first.
                let probe = try Listener.open(host: host, port: port, sharesPort: false, backlog: 1)
                Listener.close(probe)
            }
            for _ in loopCounters {
                let descriptor = try Listener.open(
                    host: host, port: bound, sharesPort: true, backlog: settings.limits.backlog)
                descriptors.append(descriptor)
                bound = try Listener.port(of: descriptor)
            }
        } catch {
            for descriptor in descriptors { Listener.close(descriptor) }
            if error.isAddressInUse { throw .addressInUse(host: host, port: port) }
            if error.isInvalid { throw .invalidHost(host) }
            throw .system(call: error.call, errno: error.errno)
        }
        return (descriptors, bound)
    }

    private func launch(_ listeners: [Int32]) throws(HTTPError) -> Running {
        let latch = Latch(count: listeners.count)
        var running = Running(threads: [], mailboxes: [], ended: latch)
        let settings = settings
        do {
            for _ in listeners { running.mailboxes.append(try Mailbox()) }
            for (index, listener) in listeners.enumerated() {
                let mailbox = running.mailboxes[index]
                let counters = loopCounters[index]
                let core = cores.isEmpty ? nil : cores[index % cores.count]
                let thread = try NamedThread(name: "loop-\(index)", core: core) {
                    defer { latch.countDown() }
                    // Fails only without descriptors or memory; the other loops go on.
                    let loop = try? EventLoop(
                        listener: listener, settings: settings, mailbox: mailbox, counters: counters)
                    loop?.run()
                }
                running.threads.append(thread)
            }
        } catch {
            for mailbox in running.mailboxes { mailbox.send(.abort) }
            for thread in running.threads { thread.join() }
            for listener in listeners.dropFirst(running.threads.count) { Listener.close(listener) }
            guard case .system(let call, let errno) = error else { throw .alreadyStarted }
            throw .system(call: call, errno: errno)
        }
        return running
    }
}
