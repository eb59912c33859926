import Threading

/// The limits that are times, in nanoseconds.
struct HTTPTimes: Sendable {
    let head, body, bodyGrace, write, idle, drainIdle, linger, spareIdle: UInt64

    init(_ limits: HTTPLimits) {
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
