import Artifacts
import JSON
import Logging
import Threading

/// The slates that were shown, for training: a share of them, one JSON line each, in rotated files.
///
/// There is no user in it and nothing that leads to one: events name the slate they answer. Compute threads
/// hand lines over and never wait; one thread that gives way to all others writes them.
final class FeedbackLog: Sendable {
    /// The limits of the log's memory and lines.
    enum Limits {
        /// Bytes of lines that wait to be written, and as much again that is being written.
        static let queueBytes = 8 << 20
        /// Of a longer answer the first ones are logged: the most that a page may have.
        static let items = 500
    }

    /// Share of slates that are logged, 0…1.
    private let sampleRate: Double
    let writer: LogWriter

    /// - Parameters:
    ///   - folder: made when it is missing.
    ///   - percent: share of slates that are logged, 0…100.
    init(folder: String, percent: Int, fileBytes: Int, files: Int, logger: Logger) throws(ThreadingError) {
        sampleRate = Double(percent) / 100
        writer = try LogWriter(
            name: "feedback", title: "the feedback log", pace: .init(queueBytes: Limits.queueBytes),
            logger: logger,
            sink: {
                RotatedSink(
                    log: RotatedLog(folder: folder, name: "slates", fileBytes: fileBytes, files: files))
            })
    }

    /// What the settings say; nil without a folder.
    static func begun(_ configuration: Configuration, logger: Logger) throws(ThreadingError) -> FeedbackLog? {
        let folder = configuration.text("feedback_dir")
        guard !folder.isEmpty else { return nil }
        return try FeedbackLog(
            folder: folder, percent: configuration.integer("feedback_percent"),
            fileBytes: configuration.integer("feedback_file_bytes"),
            files: configuration.integer("feedback_files"), logger: logger)
    }

    /// Hands a slate over, if its id is among those that are logged; never waits. All pages of a slate are
    /// logged, or none.
    /// - Parameters:
    ///   - id: the slate's `recommendation_id`.
    ///   - firstPosition: place of the first item on the slate, from 0: a later page's is above 0.
    func record(_ slate: Recommendation, id: String, firstPosition: Int = 0) {
        guard isLogged(id) else { return }
        let line = Self.line(
            slate, id: id, firstPosition: firstPosition, sampleRate: sampleRate,
            time: Double(WallClock.nanoseconds / 1_000_000) / 1e3)
        writer.offer(line)
    }

    /// Writes what waits, once, and ends the thread.
    func stop() { writer.stop() }

    /// Whether the slate of that id is among those that are logged.
    func isLogged(_ id: String) -> Bool { StickyHash.fraction(of: id, for: Self.purpose) < sampleRate }

    private static let purpose: UInt64 = 0x6665_6564_6261_636B

    // MARK: - The line

    /// The log's line of a slate.
    ///
    /// Every item's place follows from the model alone, as nothing is explored: its propensity is 1.
    static func line(
        _ slate: Recommendation, id: String, firstPosition: Int, sampleRate: Double, time: Double
    ) -> [UInt8] {
        var writer = JSONWriter(capacity: 256 + 80 * min(slate.items.count, Limits.items))
        writer.beginObject()
        writer.key("time")
        writer.value(time)
        for case let (key, text?) in [
            ("recommendation_id", id), ("model_version", slate.modelVersion), ("placement", slate.placement),
            ("variant", slate.variant), ("score_kind", slate.scoreKind.rawValue),
        ] {
            writer.key(key)
            writer.value(text)
        }
        writer.key("sample_rate")
        writer.value(sampleRate)
        writer.key("items")
        writer.beginArray()
        for (index, item) in slate.items.prefix(Limits.items).enumerated() {
            writer.beginObject()
            writer.key("item_id")
            writer.value(item.itemID)
            writer.key("position")
            writer.value(firstPosition + index)
            writer.key("score")
            writer.value(item.score)
            writer.key("propensity")
            writer.value(1)
            writer.endObject()
        }
        writer.endArray()
        writer.endObject()
        return writer.bytes + [0x0A]
    }
}

/// Numbered files as a sink.
private struct RotatedSink: LogSink {
    let log: RotatedLog

    func open() throws(LogSinkFailure) {
        do throws(BundleError) { try log.open() } catch {
            throw LogSinkFailure(description: error.description)
        }
    }

    func write(_ records: inout [UInt8]) throws(LogSinkFailure) {
        do throws(BundleError) { try log.append(records) } catch {
            throw LogSinkFailure(description: error.description)
        }
        records.removeAll()
    }

    func close() { log.close() }
}
