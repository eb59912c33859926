// For whom a peer speaks: by the PROXY header at the start of a connection, or by X-Forwarded-For.
extension Connection {
    /// Looks for the end of the PROXY header in what the loop has just received. True when something follows,
    /// which is left in the loop's buffer as if it had come alone.
    func takeProxyHeader(_ loop: EventLoop) -> Bool {
        let earlier = input.count
        if earlier > 0 { input.append(loop.scratch) }
        switch earlier > 0 ? input.proxyHeader() : loop.scratch.proxyHeader() {
        case .partial:
            if earlier == 0 { input.append(loop.scratch) }
            return false
        case .malformed:
            loop.counters.proxyHeadersRefused.increase()
            close(loop)
            return false
        case .complete(let header, let consumed):
            input.release()
            loop.scratch.drop(consumed - earlier)
            awaitsProxyHeader = false
            if let source = header.source {
                speaks(for: source, loop)
            } else {
                // Whoever it speaks for has written what else there is.
                isListedProxy = false
            }
            return phase == .open && !loop.scratch.isEmpty
        }
    }

    /// From here on the connection is the client's, with a place among those of its address.
    private func speaks(for source: NetworkAddress, _ loop: EventLoop) {
        network = source
        peer = source.description
        isListedProxy = loop.settings.trustedPeers.contains(source)
        guard loop.settings.limits.connectionsPerAddressMax > 0, !isListedProxy else { return }
        isCounted = loop.settings.addresses.admit(
            source, limit: loop.settings.limits.connectionsPerAddressMax)
        if !isCounted {
            loop.counters.connectionsRefusedByAddress.increase()
            close(loop)
        }
    }

    /// What a request says of its peer. Nobody for whom a proxy may speak is on this machine, whatever
    /// address is given.
    func describePeer(in request: inout HTTPRequest, _ loop: EventLoop) {
        request.peer = peer
        request.isLoopback = isLoopback
        guard isListedProxy else { return }
        let values = request.headers.values(of: "X-Forwarded-For")
        guard !values.isEmpty else { return }
        if let client = loop.settings.trustedPeers.client(forwardedFor: values) {
            request.peer = client.description
        }
    }
}
