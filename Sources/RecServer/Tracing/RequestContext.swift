import HTTP
import Threading

/// Who a request is, in every log, metric and trace that speaks of it.
struct RequestContext: Sendable {
    let requestID: String
    /// The caller's trace, if it named one.
    let parent: TraceContext?
    /// The request's own span; nil when it is not exported.
    let span: Span?
    /// Name of the key that the request was admitted with.
    var key: String?

    /// A span's place in the world.
    struct Span: Sendable, Equatable {
        /// 32 hexadecimal digits.
        let traceID: String
        /// 16 hexadecimal digits.
        let spanID: String
    }

    /// - Parameter span: nil when it is not exported.
    init(requestID: String, parent: TraceContext? = nil, span: Span? = nil) {
        self.requestID = requestID
        self.parent = parent
        self.span = span
    }

    /// The trace it belongs to, if any.
    var traceID: String? { span?.traceID ?? parent?.traceID }

    /// The trace that somebody has recorded, for exemplars.
    var recordedTraceID: String? { span?.traceID ?? parent.flatMap { $0.isSampled ? $0.traceID : nil } }
}

/// A request that has ended, for logs and traces.
struct RequestRecord {
    let request: HTTPRequest
    let context: RequestContext
    let route: Metrics.Route
    let status: Int
    let responseBytes: Int
    /// The stages it ran through; nil where it was answered on the loop.
    let clock: StageClock?
    /// Monotonic nanoseconds.
    let end: UInt64
    /// Nanoseconds since 1970, at the same moment.
    let endTime: Int64

    /// The status of a request whose client had gone before it was computed: nobody got it.
    static let abandonedStatus = 499

    var nanoseconds: UInt64 { end &- request.receivedAt }

    /// The wall clock at a monotonic moment of the request.
    func time(at monotonic: UInt64) -> Int64 { endTime - Int64(clamping: end &- monotonic) }

    /// What may be written down of the path: no user's id, and of paths that lead nowhere, whose parts can be
    /// anything, the first part.
    var path: String {
        switch route {
        case .user, .userEvent: return route.rawValue
        case .other:
            let parts = request.path.dropFirst().split(
                separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            let first = "/" + Self.bounded(String(parts.first ?? ""), 64)
            return parts.count > 1 ? first + "/…" : first
        default: return Self.bounded(request.path, 512)
        }
    }

    /// The client's name for itself, as far as it is worth the room.
    var userAgent: String? { request.headers.first("User-Agent").map { Self.bounded($0, 256) } }

    static func bounded(_ text: String, _ count: Int) -> String {
        text.utf8.count <= count ? text : String(decoding: text.utf8.prefix(count), as: UTF8.self) + "…"
    }
}
