import Threading

/// The limits that are times, in nanoseconds.
struct HTTPTimes: Sendable {
    let handshake, head, body, bodyGrace, write, idle, drainIdle, linger, spareIdle: UInt64

    init(_ limits: HTTPLimits) {
        handshake = limits.handshakeTimeout.nanosecondsClamped
        head = limits.headTimeout.nanosecondsClamped
        body = limits.bodyTimeout.nanosecondsClamped
        bodyGrace = limits.bodyRateGrace.nanosecondsClamped
        write = limits.writeTimeout.nanosecondsClamped
        idle = limits.idleTimeout.nanosecondsClamped
        drainIdle = limits.drainIdleGrace.nanosecondsClamped
        linger = limits.lingerTimeout.nanosecondsClamped
        spareIdle = limits.spareIdleTime.nanosecondsClamped
    }
}
