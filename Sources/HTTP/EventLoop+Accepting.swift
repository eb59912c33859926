import Synchronization

// How connections come in.
extension EventLoop {
    /// Has epoll report the connections that wait.
    func watchListeners() throws(IOError) {
        for (index, listener) in listeners.enumerated() {
            try poller.addListener(
                listener.descriptor, isShared: listener.isShared, key: Self.listenerKeys + UInt64(index))
        }
    }

    private func ignoreListeners() {
        for listener in listeners { poller.remove(listener.descriptor) }
    }

    func closeListeners() {
        ignoreListeners()
        acceptsAgainAt = nil
        listeners = []
    }

    /// Without descriptors or memory the sockets would stay ready and the loop spin: look again in 100 ms.
    func pauseAccepting() {
        ignoreListeners()
        acceptsAgainAt = now &+ 100_000_000
    }

    /// Accepts what waits, at most `limit`: then the connections that are there have their turn.
    func acceptWaiting(_ listener: ListeningSocket, limit: Int) {
        for _ in 0..<limit {
            switch listener.accept() {
            case .connection(let socket, let peer): add(socket, peer, listener.properties)
            case .lost: continue
            case .outOfDescriptors:
                counters.connectionsRefused.increase()
                spare.shedOne(from: listener)
                return pauseAccepting()
            case .outOfMemory:
                counters.connectionsRefused.increase()
                return pauseAccepting()
            case .waitingForNone: return
            }
        }
    }

    private func add(_ socket: consuming Socket, _ peer: Peer, _ listener: ListenerProperties) {
        counters.connectionsAccepted.increase()
        let isAdmitted = settings.admitted.admit(limit: settings.limits.connectionsMax)
        if !isAdmitted {
            counters.connectionsRefused.increase()
            // 256: so many may wait for their 503; the rest, and who speaks TLS, is closed without a word.
            guard refusedCount < 256, listener.tls == nil else { return }
        }
        let slot = freeSlots.popLast() ?? connections.count
        generation &+= 1
        let key = UInt64(generation) << 32 | UInt64(slot)
        let descriptor = socket.descriptor
        let connection = Connection(
            key: key, socket: socket, peer: peer, listener: listener, limits: settings.limits, now: now)
        connection.isRefused = !isAdmitted
        if slot == connections.count {
            connections.append(connection)
        } else {
            connections[slot] = connection
        }
        openCount += 1
        if !isAdmitted { refusedCount += 1 }
        counters.connectionsOpen.store(openCount, ordering: .relaxed)
        guard (try? poller.addConnection(descriptor, key: key)) != nil else { return connection.close(self) }
        if !isAdmitted { connection.fail(.tooManyConnections, self) }
        touch(connection)
    }
}
