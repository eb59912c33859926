import Synchronization

/// What the server has counted since its start; all loops together.
public struct HTTPCounters: Sendable, Equatable {
    /// Connections open now.
    public var connectionsOpen = 0
    /// Connections accepted, refused ones included.
    public var connectionsAccepted = 0
    /// Connections answered 503, or closed, because there were too many or no descriptors.
    public var connectionsRefused = 0
    /// Connections of those refused, because their address had too many.
    public var connectionsRefusedByAddress = 0
    /// Idle connections closed to make place for others.
    public var connectionsDisplaced = 0
    /// Connections closed because they had to begin with a PROXY header and did not, or came from a peer that
    /// may not speak for others.
    public var proxyHeadersRefused = 0
    /// Complete requests handed to the handler.
    public var requests = 0
    /// Requests refused by the HTTP layer, time-outs not included.
    public var protocolErrors = 0
    /// Heads, bodies and answers that took too long; idle connections not included.
    public var timeouts = 0
    /// Bytes received.
    public var bytesReceived = 0
    /// Bytes sent.
    public var bytesSent = 0
    /// Response header fields left out because they were unfit to send.
    public var fieldsLeftOut = 0
    /// What concerns HTTP/2 alone.
    public var http2 = HTTP2Counters()
    /// What TLS listeners have counted.
    public var tls = TLSCounters()
}

/// The counters of one loop: written by its thread only, read by any.
final class LoopCounters: Sendable {
    let connectionsOpen = Atomic<Int>(0)
    let connectionsAccepted = Atomic<Int>(0)
    let connectionsRefused = Atomic<Int>(0)
    let connectionsRefusedByAddress = Atomic<Int>(0)
    let connectionsDisplaced = Atomic<Int>(0)
    let proxyHeadersRefused = Atomic<Int>(0)
    let requests = Atomic<Int>(0)
    let protocolErrors = Atomic<Int>(0)
    let timeouts = Atomic<Int>(0)
    let bytesReceived = Atomic<Int>(0)
    let bytesSent = Atomic<Int>(0)
    let fieldsLeftOut = Atomic<Int>(0)
    let http2 = HTTP2LoopCounters()
    let tls = LoopTLSCounters()

    /// Adds this loop's numbers to `sum`.
    func add(to sum: inout HTTPCounters) {
        sum.connectionsOpen &+= connectionsOpen.load(ordering: .relaxed)
        sum.connectionsAccepted &+= connectionsAccepted.load(ordering: .relaxed)
        sum.connectionsRefused &+= connectionsRefused.load(ordering: .relaxed)
        sum.connectionsRefusedByAddress &+= connectionsRefusedByAddress.load(ordering: .relaxed)
        sum.connectionsDisplaced &+= connectionsDisplaced.load(ordering: .relaxed)
        sum.proxyHeadersRefused &+= proxyHeadersRefused.load(ordering: .relaxed)
        sum.requests &+= requests.load(ordering: .relaxed)
        sum.protocolErrors &+= protocolErrors.load(ordering: .relaxed)
        sum.timeouts &+= timeouts.load(ordering: .relaxed)
        sum.bytesReceived &+= bytesReceived.load(ordering: .relaxed)
        sum.bytesSent &+= bytesSent.load(ordering: .relaxed)
        sum.fieldsLeftOut &+= fieldsLeftOut.load(ordering: .relaxed)
        http2.add(to: &sum.http2)
        tls.add(to: &sum.tls)
    }
}
