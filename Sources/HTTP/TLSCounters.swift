import Synchronization

/// What TLS listeners have counted since the start.
public struct TLSCounters: Sendable, Equatable {
    /// Handshakes that were completed, by version.
    public var handshakes: [TLSContext.Settings.Version: Int] = [:]
    /// Those among them that went on from an earlier session's ticket.
    public var resumptions = 0
    /// Handshakes, and sessions, that failed, by reason.
    public var failures: [TLSFailure: Int] = [:]
}

/// The same of one loop: written by its thread only, read by any.
final class LoopTLSCounters: Sendable {
    private let handshakes12 = Atomic<Int>(0)
    private let handshakes13 = Atomic<Int>(0)
    private let resumptions = Atomic<Int>(0)
    private let failures = TLSFailure.allCases.map { _ in Count() }

    /// An array cannot hold atomics themselves.
    private final class Count: Sendable {
        let value = Atomic<Int>(0)
    }

    func countHandshake(_ agreement: TLSSession.Agreement) {
        switch agreement.version {
        case .v12: handshakes12.increase()
        case .v13: handshakes13.increase()
        }
        if agreement.isResumed { resumptions.increase() }
    }

    func count(_ failure: TLSFailure) {
        guard let index = TLSFailure.allCases.firstIndex(of: failure) else { return }
        failures[index].value.increase()
    }

    /// Adds this loop's numbers to `sum`.
    func add(to sum: inout TLSCounters) {
        sum.handshakes[.v12, default: 0] &+= handshakes12.load(ordering: .relaxed)
        sum.handshakes[.v13, default: 0] &+= handshakes13.load(ordering: .relaxed)
        sum.resumptions &+= resumptions.load(ordering: .relaxed)
        for (index, failure) in TLSFailure.allCases.enumerated() {
            sum.failures[failure, default: 0] &+= failures[index].value.load(ordering: .relaxed)
        }
    }
}
