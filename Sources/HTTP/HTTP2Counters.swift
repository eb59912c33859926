import Synchronization

/// Why the server has ended an HTTP/2 connection by GOAWAY with an error.
public enum HTTP2Ending: String, Sendable, CaseIterable {
    /// Too many frames that brought nothing.
    case frames
    /// Too many streams that were reset, by the peer or for its faults.
    case resets
    /// Header blocks that unpack to too much.
    case headers
    /// A header block that did not arrive in its time.
    case timeout
    /// The peer broke the protocol.
    case protocolError = "protocol_error"
}

/// What the server has counted of HTTP/2 since its start; all loops together.
public struct HTTP2Counters: Sendable, Equatable {
    /// Connections that spoke HTTP/2.
    public var connections = 0
    /// Complete requests handed to the handler.
    public var requests = 0
    /// Streams the peer has reset before they were answered.
    public var streamsCancelled = 0
    /// Streams the server has reset for a fault or a time-out.
    public var streamsReset = 0
    /// Streams refused because there were too many; the peer may try again.
    public var streamsRefused = 0
    /// Connections ended by GOAWAY with an error, by the reason.
    public var endings: [HTTP2Ending: Int] = [:]
}

/// The counters of one loop: written by its thread only, read by any.
final class HTTP2LoopCounters: Sendable {
    /// One number for each reason.
    final class Endings: Sendable {
        private let frames = Atomic<Int>(0)
        private let resets = Atomic<Int>(0)
        private let headers = Atomic<Int>(0)
        private let timeouts = Atomic<Int>(0)
        private let protocolErrors = Atomic<Int>(0)

        func increase(_ reason: HTTP2Ending) {
            switch reason {
            case .frames: frames.increase()
            case .resets: resets.increase()
            case .headers: headers.increase()
            case .timeout: timeouts.increase()
            case .protocolError: protocolErrors.increase()
            }
        }

        func count(_ reason: HTTP2Ending) -> Int {
            switch reason {
            case .frames: frames.load(ordering: .relaxed)
            case .resets: resets.load(ordering: .relaxed)
            case .headers: headers.load(ordering: .relaxed)
            case .timeout: timeouts.load(ordering: .relaxed)
            case .protocolError: protocolErrors.load(ordering: .relaxed)
            }
        }
    }

    let connections = Atomic<Int>(0)
    let requests = Atomic<Int>(0)
    let streamsCancelled = Atomic<Int>(0)
    let streamsReset = Atomic<Int>(0)
    let streamsRefused = Atomic<Int>(0)
    let endings = Endings()

    /// Adds this loop's numbers to `sum`.
    func add(to sum: inout HTTP2Counters) {
        sum.connections &+= connections.load(ordering: .relaxed)
        sum.requests &+= requests.load(ordering: .relaxed)
        sum.streamsCancelled &+= streamsCancelled.load(ordering: .relaxed)
        sum.streamsReset &+= streamsReset.load(ordering: .relaxed)
        sum.streamsRefused &+= streamsRefused.load(ordering: .relaxed)
        for reason in HTTP2Ending.allCases { sum.endings[reason, default: 0] &+= endings.count(reason) }
    }
}
