import Synchronization
import Threading

/// What all loops of a server share; frozen at the start.
struct LoopSettings: Sendable {
    let limits: HTTPLimits
    let times: HTTPTimes
    let trustedPeers: TrustedPeers
    let handler: HTTPServer.Handler
    let errorResponse: @Sendable (HTTPProtocolError) -> HTTPResponse
    /// Connections of all loops that count towards the limit.
    let admitted: AdmittedCount
    /// Connections of all loops by address.
    let addresses = AddressCounts()
    /// TLS handshakes of all loops that are under way.
    let handshakes = AdmittedCount()

    init(
        limits: HTTPLimits, trustedPeers: TrustedPeers, handler: @escaping HTTPServer.Handler,
        errorResponse: @escaping @Sendable (HTTPProtocolError) -> HTTPResponse
    ) {
        self.limits = limits
        self.trustedPeers = trustedPeers
        self.handler = handler
        self.errorResponse = errorResponse
        admitted = AdmittedCount()
        times = HTTPTimes(limits)
    }
}

/// One number that all loops add to and subtract from.
final class AdmittedCount: Sendable {
    private let count = Atomic<Int>(0)

    /// Counts one more, or refuses when that would exceed `limit`.
    func admit(limit: Int) -> Bool {
        if count.wrappingAdd(1, ordering: .relaxed).newValue <= limit { return true }
        leave()
        return false
    }

    func leave() { count.wrappingSubtract(1, ordering: .relaxed) }
}

/// One thread, one epoll, its listening sockets and connections. Created on its thread and never leaves it.
///
/// How connections come in is in `EventLoop+Accepting.swift`.
final class EventLoop {
    static let mailboxKey = UInt64.max
    /// The key of the first listening socket; the others follow. No connection has so high a slot.
    static let listenerKeys = UInt64.max - 65_535

    let settings: LoopSettings
    let mailbox: Mailbox<LoopMessage>
    let counters: LoopCounters
    /// Receives for all connections: 64 KiB, the most that one read brings.
    let scratch = ReadBuffer(capacity: 65_536)
    /// The plaintext of what `scratch` holds; without memory until the first TLS connection.
    let opened = ReadBuffer()
    let timers: Timers
    var now: UInt64
    private(set) var isDraining = false
    private(set) var drainingSince: UInt64 = 0

    let poller: Poller
    var listeners: [ListeningSocket]
    var spare = SpareDescriptor()
    /// Until when no connections are accepted.
    var acceptsAgainAt: UInt64?
    /// Until when no idle connection will be found.
    var seeksIdleAt: UInt64 = 0
    var connections: [Connection?] = []
    var freeSlots: [Int] = []
    var generation: UInt32 = 0
    var openCount = 0
    var refusedCount = 0
    private var isFinishing = false
    private var isAborting = false

    private var mail: [LoopMessage] = []
    // Flags beside the lists: plain values, access to which need not be watched, are all that an idle list
    // costs in a round.
    private var hasTouched = false
    private var hasRunnable = false
    private var touched: [Connection] = []
    private var settling: [Connection] = []
    private var runnable: [Connection] = []
    private var running: [Connection] = []
    private var expired: [Timers.Entry] = []
    private var spareOutput: [UInt8] = []
    private var spareSealed: [UInt8] = []
    private var handshakeTurns = 0
    private var date: [UInt8] = []
    private var dateSecond: Int64 = -1
    private var dateReadAt: UInt64 = 0

    init(
        listeners: [ListeningSocket], settings: LoopSettings, mailbox: Mailbox<LoopMessage>,
        counters: LoopCounters
    ) throws(IOError) {
        self.settings = settings
        self.mailbox = mailbox
        self.counters = counters
        now = MonotonicClock.nanoseconds
        timers = Timers(now: now)
        self.listeners = listeners
        poller = try Poller()
        try poller.addWakeUp(mailbox.wakeUpDescriptor, key: Self.mailboxKey)
        try watchListeners()
    }

    /// Serves until told to leave.
    func run() {
        var events: [Poller.Event] = []
        while !(isAborting || isFinishing && openCount == 0) {
            poller.wait(milliseconds: sleepLimit(), into: &events)
            mailbox.didWake()
            now = MonotonicClock.nanoseconds
            settle()
            for event in events { handle(event) }
            // 8: each may cost a signature, a few milliseconds together, before others are heard again.
            handshakeTurns = 8
            goOn()
            expireTimers()
            settle()
        }
        for connection in connections { connection?.close(self) }
        closeListeners()
    }

    /// Lets the connections go on that have more to do.
    private func goOn() {
        guard hasRunnable else { return }
        hasRunnable = false
        swap(&runnable, &running)
        for connection in running {
            connection.isRunnable = false
            connection.advance(self)
            touch(connection)
            settle()
        }
        running.removeAll(keepingCapacity: true)
    }

    /// How long epoll may sleep: nil for ever.
    private func sleepLimit() -> Int? {
        guard !hasRunnable, mailbox.prepareToSleep() else { return 0 }
        let timer = timers.millisecondsUntilNext(now: now)
        guard let acceptsAgainAt else { return timer }
        let pause = acceptsAgainAt <= now ? 0 : Int((acceptsAgainAt - now) / 1_000_000) + 1
        return min(timer ?? pause, pause)
    }

    private func handle(_ event: Poller.Event) {
        switch event.key {
        case Self.mailboxKey: break
        case Self.listenerKeys...:
            let index = Int(event.key - Self.listenerKeys)
            if index < listeners.count { acceptWaiting(listeners[index], limit: 64) }
        default:
            guard let connection = connection(event.key) else { return }
            connection.handle(event, self)
            connection.settle(self)
        }
    }

    /// Delivers the mail, then lets every connection that something happened to send and set its timer.
    private func settle() {
        if mailbox.hasMail {
            mailbox.drain(into: &mail)
            for message in mail { deliver(message) }
            mail.removeAll(keepingCapacity: true)
        }
        guard hasTouched else { return }
        hasTouched = false
        swap(&touched, &settling)
        for connection in settling {
            connection.isTouched = false
            connection.settle(self)
        }
        settling.removeAll(keepingCapacity: true)
    }

    private func deliver(_ message: LoopMessage) {
        switch message {
        case .answer(let key, let sequence, let response):
            guard let connection = connection(key) else { return }
            connection.answer(sequence, response, self)
            touch(connection)
        case .abandoned(let key, let sequence):
            guard let connection = connection(key) else { return }
            connection.abandon(sequence, self)
            touch(connection)
        case .drain: drain()
        case .ping(let latch): latch.countDown()
        case .finish:
            drain()
            isFinishing = true
        case .abort: isAborting = true
        }
    }

    private func drain() {
        guard !isDraining else { return }
        // Connections in the kernel's queue would be reset with the listener: they are still served.
        for listener in listeners { acceptWaiting(listener, limit: settings.limits.backlog) }
        closeListeners()
        isDraining = true
        drainingSince = now
        for case let connection? in connections { touch(connection) }
    }

    private func expireTimers() {
        if let again = acceptsAgainAt, now >= again {
            acceptsAgainAt = nil
            if (try? watchListeners()) == nil { pauseAccepting() }
        }
        guard timers.isDue(now) else { return }
        timers.advance(to: now, into: &expired)
        for entry in expired { connection(entry.key)?.expire(tick: entry.tick, self) }
        expired.removeAll(keepingCapacity: true)
    }

    // MARK: - Connections

    private func connection(_ key: UInt64) -> Connection? {
        let slot = Int(key & 0xFFFF_FFFF)
        guard slot < connections.count, let connection = connections[slot], connection.key == key else {
            return nil
        }
        return connection
    }

    /// The connection has closed: its slot is free, and the descriptor closes with the last reference.
    func remove(_ connection: Connection) {
        let slot = Int(connection.key & 0xFFFF_FFFF)
        guard slot < connections.count, connections[slot] === connection else { return }
        connections[slot] = nil
        freeSlots.append(slot)
        openCount -= 1
        if connection.isRefused { refusedCount -= 1 } else { settings.admitted.leave() }
        if connection.isCounted, let network = connection.network { settings.addresses.leave(network) }
        counters.connectionsOpen.store(openCount, ordering: .relaxed)
    }

    /// Lists the connection to be settled.
    func touch(_ connection: Connection) {
        guard !connection.isTouched else { return }
        connection.isTouched = true
        touched.append(connection)
        hasTouched = true
    }

    /// Lists the connection to go on in the next round although no event will tell.
    func schedule(_ connection: Connection) {
        guard !connection.isRunnable else { return }
        connection.isRunnable = true
        runnable.append(connection)
        hasRunnable = true
    }

    // MARK: - Handing requests to the application

    // The request that the handler is looking at: plain values, which cost nothing to set.
    private var handedConnection: UInt64 = 0
    private var handedSequence: UInt64 = 0
    private var handedPresence: Presence?
    private var isDeferred = false

    /// Has the application answer request `sequence` of a connection: now, or nil and later by mail.
    ///
    /// `presence` ends with the request; nil for that of the connection.
    func hand(
        _ request: HTTPRequest, connection: UInt64, sequence: UInt64, presence: Presence? = nil
    ) -> HTTPResponse? {
        handedConnection = connection
        handedSequence = sequence
        if presence != nil || handedPresence != nil { handedPresence = presence }
        isDeferred = false
        if let response = settings.handler(request, Deferral(loop: self)) { return response }
        return isDeferred ? nil : settings.errorResponse(.abandoned)
    }

    /// The reply handle of the request that is being handled.
    func deferHanded() -> Exchange {
        isDeferred = true
        return Exchange(
            mailbox: mailbox, connection: handedConnection, sequence: handedSequence,
            presence: handedPresence ?? connection(handedConnection)?.presence ?? Presence())
    }

    // MARK: - What connections borrow

    /// The Date field of this second; the clock is read once a round.
    var dateField: [UInt8] {
        if dateReadAt != now {
            dateReadAt = now
            let second = WallClock.seconds
            if second != dateSecond {
                dateSecond = second
                date = HTTP1Writer.dateField(secondsSince1970: second)
            }
        }
        return date
    }

    /// Gives an empty output buffer its memory.
    func lendOutput(_ output: inout [UInt8]) { swap(&output, &spareOutput) }

    /// Takes the memory of a sent output buffer back: one is kept, if it is not large.
    func recycleOutput(_ output: consuming [UInt8]) {
        output.removeAll(keepingCapacity: output.capacity <= 262_144)
        swap(&output, &spareOutput)
    }

    /// The same for ciphertext.
    func lendSealed(_ sealed: inout [UInt8]) { swap(&sealed, &spareSealed) }

    func recycleSealed(_ sealed: inout [UInt8]) {
        sealed.removeAll(keepingCapacity: sealed.capacity <= 262_144)
        swap(&sealed, &spareSealed)
        sealed = []
    }

    /// Gives `opened` its memory: one read, the record that a session may hold, and some.
    func prepareForTLS() {
        if opened.capacity == 0 { opened.reserve(scratch.capacity + 32_768) }
    }

    /// Whether a connection may go on with its handshake in this turn of the loop.
    func takeHandshakeTurn() -> Bool {
        guard handshakeTurns > 0 else { return false }
        handshakeTurns -= 1
        return true
    }
}
