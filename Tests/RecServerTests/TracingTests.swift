import Foundation
import HTTP
import JSON
import Testing
import Threading

@testable import RecServer

@Suite struct TracingTests {
    private static let trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    private static let parent = "00f067aa0ba902b7"

    private static func headers(_ fields: [(String, String)]) -> HTTPHeaders { HTTPHeaders(fields) }

    @Test func `the caller's span, flag and state are taken with the trace`() throws {
        let header = "00-\(Self.trace)-\(Self.parent)-"
        let context = try #require(
            TraceContext(
                Self.headers([
                    ("Traceparent", header + "03"), ("tracestate", "a=1"), ("TraceState", "b=2 , c=3"),
                ])))
        #expect(context.spanID == Self.parent && context.isSampled && context.state == "a=1,b=2 , c=3")
        #expect(TraceContext(header + "fe")?.isSampled == false)
        #expect(TraceContext(Self.headers([("traceparent", header + "01"), ("traceparent", "x")])) == nil)
        #expect(TraceContext(Self.headers([("tracestate", "a=1")])) == nil)
        let long = String(repeating: "x", count: 3000)
        #expect(
            TraceContext(Self.headers([("traceparent", header + "01"), ("tracestate", long)]))?.state == "")
    }

    private static func record(
        _ path: String, route: Metrics.Route, agent: String? = nil, clock: StageClock? = nil,
        span: RequestContext.Span? = nil
    ) -> RequestRecord {
        let context = RequestContext(requestID: "r\"1", span: span)
        let request = HTTPRequest(
            method: "GET", path: path, headers: headers(agent.map { [("User-Agent", $0)] } ?? []),
            receivedAt: 1_000_000_000)
        return RequestRecord(
            request: request, context: context, route: route, status: 200, responseBytes: 5, clock: clock,
            end: 1_002_500_000, endTime: 1_777_000_000_000_000_000)
    }

    @Test func `a path that is written down names no user`() {
        for (path, route, expected) in [
            ("/users/alice", .user, "/users/{user_id}"),
            ("/users/alice/x", .userEvent, "/users/{user_id}/events/{event_id}"),
            ("/similar/film-1", .similar, "/similar/film-1"), ("/livez", .livez, "/livez"),
            ("/nowhere", .other, "/nowhere"), ("//users/alice", .other, "//…"), ("*", .other, "/"),
            ("/%75sers/alice", .other, "/%75sers/…"),
        ] as [(String, Metrics.Route, String)] {
            #expect(Self.record(path, route: route).path == expected)
        }
        let long = "/" + String(repeating: "é", count: 1000)
        #expect(Self.record(long, route: .other).path.utf8.count < 80)
        #expect(Self.record(long, route: .livez).path.utf8.count < 520)
    }

    @Test func `a line is one line of JSON whatever a client sends`() throws {
        let agent = "a\"\\\u{1}\u{7F}é" + String(repeating: "x", count: 300)
        let line = AccessLog.line(Self.record("/livez", route: .livez, agent: agent))
        #expect(line.last == 0x0A && line.dropLast().allSatisfy { $0 >= 0x20 && $0 != 0x7F })
        guard case .object(let object) = try JSONParser.parse(Array(line)) else {
            Issue.record("no object")
            return
        }
        #expect(object["request_id"] == .string("r\"1") && object["seconds"] == .number(0.0025))
        guard case .string(let kept) = object["user_agent"] else {
            Issue.record("no agent")
            return
        }
        #expect(kept.hasPrefix("a\"\\\u{1}\u{7F}é") && kept.utf8.count < 262)
        #expect(object["queue_seconds"] == nil && object["key"] == nil && object["trace_id"] == nil)
    }

    @Test func `a span has its stages in their times`() throws {
        var clock = StageClock(start: MonotonicClock.nanoseconds, keepsParts: true)
        for _ in 0..<100 { clock.end(.decode) }
        #expect(clock.parts.count == 64)
        var batch = StageClock(start: MonotonicClock.nanoseconds, keepsParts: true)
        batch.end(.queue)
        batch.add(clock)
        #expect(batch.parts.count == 64 && batch.parts.first?.stage == .queue)
        var plain = StageClock(start: 0)
        plain.end(.queue)
        #expect(plain.parts.isEmpty)
    }

    @Test func `an endpoint is plain HTTP with a host`() throws {
        for (text, host, port, path) in [
            ("http://localhost", "localhost", 4318, "/v1/traces"),
            ("http://127.0.0.1:9/", "127.0.0.1", 9, "/v1/traces"),
            ("http://[::1]:80/x/y", "::1", 80, "/x/y"), ("http://[fe80::1]", "fe80::1", 4318, "/v1/traces"),
        ] as [(String, String, UInt16, String)] {
            let endpoint = try #require(OTLPEndpoint(text))
            #expect(endpoint.host == host && endpoint.port == port && endpoint.path == path)
        }
        for text in [
            "", "http://", "https://h", "h:1", "http://h:", "http://h:0", "http://h:99999", "http://:1",
            "http://u@h:1", "http://h:1 ", "http://h\r\nX: y", "http://[::1]x", "http://é",
        ] {
            #expect(OTLPEndpoint(text) == nil, "\(text)")
        }
        let head = String(
            decoding: try #require(OTLPEndpoint("http://[::1]:80")).head(count: 3), as: UTF8.self)
        #expect(head.contains("\r\nHost: [::1]:80\r\n") && head.contains("\r\nContent-Length: 3\r\n"))
    }

    @Test func `only OpenMetrics shows examples, each in its bucket`() {
        let histogram = Histogram(bounds: [0.5, 1])
        histogram.record(nanoseconds: 700_000_000, traceID: "t1")
        histogram.record(nanoseconds: 800_000_000, traceID: "t2")
        histogram.record(nanoseconds: 9_000_000_000)
        for isOpen in [true, false] {
            var writer = MetricsWriter(isOpenMetrics: isOpen)
            writer.histogram("m", "h", [("", histogram)])
            let lines = writer.text.split(separator: "\n")
            #expect(lines.contains { $0.hasPrefix(#"m_bucket{le="1"} 2 # {trace_id="t2"} 0.8 "#) } == isOpen)
            #expect(lines.contains(#"m_bucket{le="1"} 2"#) == !isOpen)
            #expect(lines.contains(#"m_bucket{le="+Inf"} 3"#) && !writer.text.contains("t1"))
        }
    }
}

@Suite struct LogWriterTests {
    /// A sink that fails while it is told so, and takes a piece at a time.
    private final class Memory: LogSink, Sendable {
        struct State {
            var taken: [UInt8] = []
            var failure: LogSinkFailure?
            var opened = 0
            var closed = 0
        }
        let state = Lock(State())

        func open() throws(LogSinkFailure) {
            state.withLock { $0.opened += 1 }
        }
        func write(_ records: inout [UInt8]) throws(LogSinkFailure) {
            if let failure = state.withLock({ $0.failure }) {
                // A part is taken all the same.
                let part = records.prefix(1)
                state.withLock { $0.taken += part }
                records.removeFirst(part.count)
                throw failure
            }
            let all = records
            state.withLock { $0.taken += all }
            records.removeAll()
        }
        func close() { state.withLock { $0.closed += 1 } }
    }

    private func writer(_ sink: Memory, _ pace: LogWriter.Pace = .init()) throws -> LogWriter {
        try LogWriter(name: "test", title: "a test", pace: pace, logger: SmallBundle.silentLogger) { sink }
    }

    @Test func `everything offered is taken in order, also what is gathered when it ends`() throws {
        let sink = Memory()
        let writer = try writer(sink, .init(gathering: 3_600_000_000_000))
        for byte in UInt8(0)..<200 { #expect(writer.offer([byte])) }
        writer.stop()
        #expect(sink.state.withLock { $0.taken } == Array(0..<200))
        #expect(writer.written.value == 200 && writer.bytes.value == 200 && writer.dropped.value == 0)
        #expect(!writer.offer([1]) && writer.dropped.value == 1)
        #expect(sink.state.withLock { $0.opened == 1 && $0.closed == 1 })
    }

    @Test func `what fails goes on where it stopped, and what has no room is dropped`() throws {
        let sink = Memory()
        sink.state.withLock { $0.failure = LogSinkFailure(description: "full") }
        let writer = try writer(sink, .init(queueBytes: 10, retrySeconds: 0, retrySecondsMaximum: 0))
        #expect(writer.offer([1, 2, 3, 4, 5, 6]))
        while sink.state.withLock({ $0.taken.count }) < 2 { continue }
        while writer.offer([7, 8, 9]) { continue }
        #expect(writer.dropped.value == 1)
        sink.state.withLock { $0.failure = nil }
        while sink.state.withLock({ $0.taken.count }) < 6 { continue }
        writer.stop()
        let taken = sink.state.withLock { $0.taken }
        #expect(taken.prefix(6) == [1, 2, 3, 4, 5, 6] && taken.count == 15)
        #expect(writer.written.value == 4 && writer.errors.value >= 1)
    }

    @Test func `what nobody will ever take is dropped at once`() throws {
        let sink = Memory()
        sink.state.withLock { $0.failure = LogSinkFailure(description: "no", isPassing: false) }
        let writer = try writer(sink)
        writer.offer([1, 2])
        writer.stop()
        #expect(writer.dropped.value == 1 && writer.written.value == 0)
    }

    @Test func `opening again goes before what comes afterwards`() throws {
        let sink = Memory()
        let writer = try writer(sink)
        writer.reopen()
        while sink.state.withLock({ $0.opened }) < 2 { continue }
        writer.offer([1])
        writer.stop()
        #expect(sink.state.withLock { $0.closed } == 2)
    }
}
