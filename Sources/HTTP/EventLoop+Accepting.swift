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
        let isListedProxy = settings.trustedPeers.contains(peer.network)
        if listener.takesProxyHeader, !isListedProxy {
            // Whoever it is, it may not speak here: closed without a word.
            counters.proxyHeadersRefused.increase()
            return
        }
        let counted = isListedProxy ? nil : peer.network
        let isAdmitted = admit(counted)
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
        connection.isCounted = isAdmitted && counted != nil && settings.limits.connectionsPerAddressMax > 0
        connection.isListedProxy = isListedProxy
        connection.awaitsProxyHeader = listener.takesProxyHeader
        if isListedProxy { connection.isLoopback = false }
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

    /// Whether there is a place for one more connection, of the address if that counts.
    private func admit(_ counted: NetworkAddress?) -> Bool {
        let perAddress = settings.limits.connectionsPerAddressMax
        if let counted, perAddress > 0, !settings.addresses.admit(counted, limit: perAddress) {
            counters.connectionsRefusedByAddress.increase()
            return false
        }
        let limit = settings.limits.connectionsMax
        if settings.admitted.admit(limit: limit) || displaceIdle() && settings.admitted.admit(limit: limit) {
            return true
        }
        if let counted, perAddress > 0 { settings.addresses.leave(counted) }
        return false
    }

    /// Closes the connections of this loop that have been idle longest, at most 64 and at most a 32nd of all;
    /// false when none has been long enough.
    private func displaceIdle() -> Bool {
        guard now >= seeksIdleAt else { return false }
        let most = max(1, min(64, connections.count / 32))
        var idlest: [Connection] = []
        for case let connection? in connections
        where connection.isIdle && now &- connection.idleSince >= settings.times.spareIdle {
            let since = connection.idleSince
            guard idlest.count < most || since < (idlest.last?.idleSince ?? 0) else { continue }
            let place = idlest.firstIndex { since < $0.idleSince } ?? idlest.count
            idlest.insert(connection, at: place)
            if idlest.count > most { idlest.removeLast() }
        }
        // 100 ms: a flood of connections must not have all others looked at for each.
        if idlest.isEmpty { seeksIdleAt = now &+ 100_000_000 }
        for connection in idlest { connection.close(self) }
        counters.connectionsDisplaced.increase(by: idlest.count)
        return !idlest.isEmpty
    }
}
