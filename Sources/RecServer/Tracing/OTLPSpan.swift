import HTTP
import JSON
import Ranking
import Threading

/// Spans in the JSON form of OTLP 1 (`ExportTraceServiceRequest`), with the attributes of OpenTelemetry's
/// semantic conventions for HTTP servers.
enum OTLPSpan {
    /// What a span says of this server.
    struct Server: Sendable {
        let version: String
        let address: String
        let port: Int
    }

    /// Values of `SpanKind` and of a status's code.
    private enum Code {
        static let `internal` = 1
        static let server = 2
        static let error = 2
        /// Trace flags 01, and whether the parent is in another process.
        static let flags = 0x101
        static let remoteFlags = 0x301
    }

    /// A request's span and those of its stages: JSON objects, each followed by a comma.
    /// - Parameter newID: makes the stages' span ids.
    static func encoded(
        _ record: RequestRecord, _ span: RequestContext.Span, server: Server, newID: () -> String
    ) -> [UInt8] {
        let request = record.request
        let method = knownMethods.contains(request.method) ? request.method : "_OTHER"
        var json = JSONWriter(capacity: 2048)
        json.beginObject()
        json.key("traceId")
        json.value(span.traceID)
        json.key("spanId")
        json.value(span.spanID)
        if let parent = record.context.parent {
            json.key("parentSpanId")
            json.value(parent.spanID)
            if !parent.state.isEmpty {
                json.key("traceState")
                json.value(parent.state)
            }
        }
        json.key("flags")
        json.value(record.context.parent == nil ? Code.flags : Code.remoteFlags)
        json.key("name")
        // Semantic conventions: the method and the route, which has few values.
        json.value(record.route == .other ? method : "\(method) \(record.route.rawValue)")
        json.key("kind")
        json.value(Code.server)
        writeTimes(record.time(at: request.receivedAt), record.endTime, to: &json)
        json.key("attributes")
        json.beginArray()
        writeAttributes(record, method: method, server: server, to: &json)
        json.endArray()
        if record.status >= 500 {
            json.key("status")
            json.beginObject()
            json.key("code")
            json.value(Code.error)
            json.endObject()
        }
        json.endObject()
        var bytes = json.bytes + [UInt8(ascii: ",")]
        for part in record.clock?.parts ?? [] {
            bytes += encoded(part, of: record, span, id: newID()) + [UInt8(ascii: ",")]
        }
        return bytes
    }

    private static func encoded(
        _ part: StageClock.Part, of record: RequestRecord, _ span: RequestContext.Span, id: String
    ) -> [UInt8] {
        var json = JSONWriter(capacity: 256)
        json.beginObject()
        for (key, text) in [
            ("traceId", span.traceID), ("spanId", id), ("parentSpanId", span.spanID),
            ("name", part.stage.rawValue),
        ] {
            json.key(key)
            json.value(text)
        }
        json.key("flags")
        json.value(Code.flags)
        json.key("kind")
        json.value(Code.internal)
        writeTimes(record.time(at: part.start), record.time(at: part.end), to: &json)
        json.endObject()
        return json.bytes
    }

    private static let knownMethods: Set<String> = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ]

    private static func writeTimes(_ start: Int64, _ end: Int64, to json: inout JSONWriter) {
        // 64-bit integers are strings in protobuf's JSON.
        json.key("startTimeUnixNano")
        json.value(String(start))
        json.key("endTimeUnixNano")
        json.value(String(max(start, end)))
    }

    private static func writeAttributes(
        _ record: RequestRecord, method: String, server: Server, to json: inout JSONWriter
    ) {
        let request = record.request
        for case let (key, text?) in [
            ("http.request.method", method),
            (
                "http.request.method_original",
                method == "_OTHER" ? RequestRecord.bounded(request.method, 32) : nil
            ),
            ("http.route", record.route == .other ? nil : record.route.rawValue),
            ("url.path", record.path), ("url.scheme", request.isSecure ? "https" : "http"),
            ("server.address", server.address),
            ("client.address", request.peer), ("network.protocol.name", "http"),
            ("network.protocol.version", String(request.version.name.dropFirst("HTTP/".count))),
            ("user_agent.original", record.userAgent),
            ("error.type", record.status >= 500 ? String(record.status) : nil),
            ("recserver.request_id", record.context.requestID), ("recserver.key", record.context.key),
            ("recserver.model_version", record.clock?.modelVersion),
            ("recserver.cache", record.clock?.cache?.rawValue),
        ] {
            attribute(key, to: &json) { json in
                json.key("stringValue")
                json.value(text)
            }
        }
        for (key, number) in [
            ("http.response.status_code", record.status), ("http.request.body.size", request.body.count),
            ("http.response.body.size", record.responseBytes), ("server.port", server.port),
        ] {
            attribute(key, to: &json) { json in
                json.key("intValue")
                json.value(String(number))
            }
        }
        guard let degraded = record.clock?.degraded, !degraded.isEmpty else { return }
        attribute("recserver.degraded", to: &json) { json in
            json.key("arrayValue")
            json.beginObject()
            json.key("values")
            json.beginArray()
            for step in degraded {
                json.beginObject()
                json.key("stringValue")
                json.value(step.rawValue)
                json.endObject()
            }
            json.endArray()
            json.endObject()
        }
    }

    private static func attribute(
        _ key: String, to json: inout JSONWriter, _ value: (inout JSONWriter) -> Void
    ) {
        json.beginObject()
        json.key("key")
        json.value(key)
        json.key("value")
        json.beginObject()
        value(&json)
        json.endObject()
        json.endObject()
    }

    // MARK: - The request around spans

    /// What comes before the spans of a batch.
    static func resource(version: String, instance: String) -> [UInt8] {
        var json = JSONWriter()
        json.beginArray()
        for (key, text) in [
            ("service.name", "recserver"), ("service.version", version), ("service.instance.id", instance),
        ] {
            attribute(key, to: &json) { json in
                json.key("stringValue")
                json.value(text)
            }
        }
        json.endArray()
        let scope = #"{"name":"recserver","version":"\#(version)"}"#
        return Array(#"{"resourceSpans":[{"resource":{"attributes":"#.utf8) + json.bytes
            + Array(#"},"scopeSpans":[{"scope":\#(scope),"spans":["#.utf8)
    }

    /// What comes after them.
    static let end = Array("]}]}]}".utf8)
}
