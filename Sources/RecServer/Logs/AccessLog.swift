import HTTP
import JSON
import Logging
import Threading

/// One JSON line for every request, or for a share of them; all that failed on the server's side are there.
///
/// Neither keys, queries and bodies nor users' ids are in it.
final class AccessLog: Sendable {
    let writer: LogWriter
    /// Share of requests that are logged, 0…1.
    private let sampleRate: Double

    /// - Parameters:
    ///   - path: the file; `-` for standard output.
    ///   - percent: share of requests that are logged, 0…100, those with a status of 500 and more besides.
    init(path: String, percent: Int, logger: Logger) throws(ThreadingError) {
        sampleRate = Double(percent) / 100
        writer = try LogWriter(name: "access", title: "the access log", logger: logger) {
            FileSink(file: AppendedFile(path: path))
        }
    }

    /// What the settings say; nil when it is off.
    static func begun(_ configuration: Configuration, logger: Logger) throws(ThreadingError) -> AccessLog? {
        let path = configuration.text("access_log")
        guard !path.isEmpty else { return nil }
        return try AccessLog(
            path: path, percent: configuration.integer("access_log_percent"), logger: logger)
    }

    /// Takes note of a request that has ended; never waits.
    func record(_ record: RequestRecord) {
        guard isLogged(record.context.requestID, status: record.status) else { return }
        writer.offer(Self.line(record))
    }

    /// Takes note of what the HTTP layer refused: there is no request then.
    func recordRefusal(status: Int, requestID: String, time: Int64) {
        guard isLogged(requestID, status: status) else { return }
        var json = JSONWriter(capacity: 128)
        json.beginObject()
        json.key("time")
        json.value(Timestamp.text(nanoseconds: time))
        json.key("request_id")
        json.value(requestID)
        json.key("status")
        json.value(status)
        json.endObject()
        writer.offer(json.bytes + [0x0A])
    }

    /// Lets go of the file and opens what has its name now.
    func reopen() { writer.reopen() }

    /// Writes what waits and ends the thread.
    func stop() { writer.stop() }

    private static let purpose: UInt64 = 0x6163_6365_7373_2E2E

    private func isLogged(_ requestID: String, status: Int) -> Bool {
        status >= 500 || StickyHash.fraction(of: requestID, for: Self.purpose) < sampleRate
    }

    /// The line of a request, with its end.
    static func line(_ record: RequestRecord) -> [UInt8] {
        let request = record.request
        var json = JSONWriter(capacity: 512)
        json.beginObject()
        for case let (key, text?) in [
            ("time", Timestamp.text(nanoseconds: record.endTime)), ("request_id", record.context.requestID),
            ("trace_id", record.context.traceID), ("span_id", record.context.span?.spanID),
            ("peer", request.peer), ("method", RequestRecord.bounded(request.method, 32)),
            ("route", record.route.rawValue), ("path", record.path),
            ("protocol", request.version.name),
        ] {
            json.key(key)
            json.value(text)
        }
        for (key, number) in [
            ("status", record.status), ("request_bytes", request.body.count),
            ("response_bytes", record.responseBytes),
        ] {
            json.key(key)
            json.value(number)
        }
        json.key("seconds")
        json.value(Double(record.nanoseconds / 1000) / 1e6)
        if let queue = record.clock?.nanoseconds(.queue) {
            json.key("queue_seconds")
            json.value(Double(queue / 1000) / 1e6)
        }
        for case let (key, text?) in [("key", record.context.key), ("user_agent", record.userAgent)] {
            json.key(key)
            json.value(text)
        }
        json.endObject()
        return json.bytes + [0x0A]
    }
}

/// A file as a sink.
private struct FileSink: LogSink {
    let file: AppendedFile

    func open() throws(LogSinkFailure) {
        do throws(StreamError) { try file.open() } catch {
            throw LogSinkFailure(description: error.description)
        }
    }

    func write(_ records: inout [UInt8]) throws(LogSinkFailure) {
        do throws(StreamError) { try file.append(&records) } catch {
            throw LogSinkFailure(description: error.description)
        }
    }

    func close() { file.close() }
}
