import Foundation
import JSON
import Testing

@testable import RecServer

@Suite struct FeedbackLogTests {
    private static func slate(_ count: Int = 3, placement: String? = nil) -> Recommendation {
        Recommendation(
            modelVersion: "m-1", placement: placement, variant: nil, scoreKind: .value,
            items: (0..<count).map {
                .init(itemID: "i\"\($0)", score: 0.5 - Double($0), attributes: [], explanation: nil)
            },
            isShort: false, degraded: [], history: .init(), unknownCandidates: nil, unknownQueryItems: [],
            trace: nil)
    }

    private static func log(_ folder: String, percent: Int = 100) throws -> FeedbackLog {
        try FeedbackLog(
            folder: folder, percent: percent, fileBytes: 1 << 20, files: 4, logger: SmallBundle.silentLogger)
    }

    /// The lines of all files, as JSON.
    private static func lines(_ folder: String) throws -> [JSONObject] {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        return try names.flatMap { name in
            try Data(contentsOf: URL(filePath: folder + "/" + name)).split(separator: 0x0A).map { line in
                guard case .object(let object) = try JSONParser.parse(Array(line)) else {
                    throw CocoaError(.fileReadCorruptFile)
                }
                return object
            }
        }
    }

    private func inFolder(_ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "recserver-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    @Test func `a line says what was shown where, by which model, and how likely`() throws {
        let bytes = FeedbackLog.line(
            Self.slate(2, placement: "home"), id: "r1", firstPosition: 20, sampleRate: 0.25, time: 17.5)
        let expected =
            #"{"time":17.5,"recommendation_id":"r1","model_version":"m-1","placement":"home","#
            + #""score_kind":"value","sample_rate":0.25,"items":["#
            + #"{"item_id":"i\"0","position":20,"score":0.5,"propensity":1},"#
            + #"{"item_id":"i\"1","position":21,"score":-0.5,"propensity":1}]}"# + "\n"
        #expect(String(decoding: bytes, as: UTF8.self) == expected)
    }

    @Test func `of a long answer only as much as a page may hold is logged`() throws {
        let bytes = FeedbackLog.line(
            Self.slate(2000), id: "r1", firstPosition: 0, sampleRate: 1, time: 0)
        guard case .object(let line) = try JSONParser.parse(bytes),
            case .array(let items) = line["items"]
        else {
            Issue.record("not a line")
            return
        }
        #expect(items.count == FeedbackLog.Limits.items)
    }

    @Test func `every slate handed over is in the folder once the log has stopped`() throws {
        try inFolder { folder in
            let log = try Self.log(folder)
            for index in 0..<500 { log.record(Self.slate(), id: "r\(index)") }
            log.stop()
            let ids = try Self.lines(folder).map { $0["recommendation_id"] }
            #expect(ids == (0..<500).map { .string("r\($0)") })
            #expect(
                log.writer.written.value == 500 && log.writer.dropped.value == 0
                    && log.writer.errors.value == 0)
        }
    }

    @Test func `the share that is logged is chosen by the slate's id alone`() throws {
        try inFolder { folder in
            let log = try Self.log(folder, percent: 30)
            let ids = (0..<2000).map { "r\($0)" }
            let chosen = ids.filter(log.isLogged)
            #expect((500...700).contains(chosen.count))
            for id in ids {
                log.record(Self.slate(), id: id)
                log.record(Self.slate(), id: id, firstPosition: 3)
            }
            log.stop()
            let logged = try Self.lines(folder).map { $0["recommendation_id"] }
            #expect(logged == chosen.flatMap { [.string($0), .string($0)] })
        }
        try inFolder { folder in
            let log = try Self.log(folder, percent: 0)
            for index in 0..<100 { log.record(Self.slate(), id: "r\(index)") }
            log.stop()
            #expect(try Self.lines(folder).isEmpty)
        }
    }

    @Test func `what a folder in trouble cannot take is counted, and nobody waits`() throws {
        try inFolder { folder in
            try Data().write(to: URL(filePath: folder))
            let log = try Self.log(folder)
            let count = FeedbackLog.Limits.queueBytes / 20_000
            for index in 0..<2 * count { log.record(Self.slate(400), id: "r\(index)") }
            log.stop()
            #expect(log.writer.written.value == 0 && log.writer.dropped.value == UInt64(2 * count))
            #expect(log.writer.errors.value > 0)
            // After the end nothing is taken.
            log.record(Self.slate(), id: "late")
            #expect(log.writer.dropped.value == UInt64(2 * count) + 1)
        }
    }
}
