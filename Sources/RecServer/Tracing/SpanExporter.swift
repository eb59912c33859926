import Logging
import Threading

/// Sends the spans of requests to a collector: OTLP over HTTP, in JSON.
final class SpanExporter: Sendable {
    let writer: LogWriter
    /// Share of the requests without a caller's trace that are exported, 0…1.
    private let sampleRate: Double
    private let identifiers: IdentifierSource
    private let server: OTLPSpan.Server

    /// - Parameter percent: share of the requests without a caller's trace, 0…100.
    init(
        endpoint: OTLPEndpoint, percent: Int, server: OTLPSpan.Server, identifiers: IdentifierSource,
        logger: Logger
    ) throws(ThreadingError) {
        sampleRate = Double(percent) / 100
        self.identifiers = identifiers
        self.server = server
        let resource = OTLPSpan.resource(version: server.version, instance: identifiers.next())
        writer = try LogWriter(
            name: "spans", title: "the export of traces", pace: Self.pace, logger: logger
        ) {
            OTLPSink(endpoint: endpoint, resource: resource)
        }
    }

    /// 4 MiB: about a thousand spans with their stages. A second: so that a batch is worth a connection.
    private static let pace = LogWriter.Pace(
        queueBytes: 4 << 20, gathering: 1_000_000_000, retrySeconds: 1, retrySecondsMaximum: 30)

    /// What the settings say; nil when it is off.
    static func begun(
        _ configuration: Configuration, identifiers: IdentifierSource, logger: Logger
    ) throws -> SpanExporter? {
        let text = configuration.text("otlp_endpoint")
        guard !text.isEmpty else { return nil }
        guard let endpoint = OTLPEndpoint(text) else {
            throw Configuration.Invalid(
                description: "otlp_endpoint: expected http://HOST:PORT, found \"\(text)\"")
        }
        return try SpanExporter(
            endpoint: endpoint, percent: configuration.integer("otlp_percent"),
            server: .init(
                version: Server.version, address: configuration.text("host"),
                port: configuration.integer("port")),
            identifiers: identifiers, logger: logger)
    }

    /// The span of a request that begins; nil when it is not exported. A caller's trace goes on where the
    /// caller has recorded it, and nowhere else.
    func span(in parent: TraceContext?) -> RequestContext.Span? {
        if let parent {
            guard parent.isSampled else { return nil }
            return .init(traceID: parent.traceID, spanID: identifiers.nextSpan())
        }
        let trace = identifiers.next()
        guard StickyHash.fraction(of: trace, for: Self.purpose) < sampleRate else { return nil }
        return .init(traceID: trace, spanID: identifiers.nextSpan())
    }

    /// Takes note of a request that has ended; never waits.
    func record(_ record: RequestRecord) {
        guard let span = record.context.span else { return }
        writer.offer(OTLPSpan.encoded(record, span, server: server) { identifiers.nextSpan() })
    }

    /// Sends what waits, once, and ends the thread.
    func stop() { writer.stop() }

    private static let purpose: UInt64 = 0x7370_616E_732E_2E2E
}
