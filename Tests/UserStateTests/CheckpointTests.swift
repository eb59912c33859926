import Foundation
import Testing

@testable import UserState

@Suite struct CheckpointTests {
    @Test func `a checkpoint beside a reader leaves no page behind in memory`() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/checkpoint-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/pages.db"
        let more = """
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
            INSERT INTO page (content) SELECT randomblob(500) FROM n
            """
        let writer = try SQLiteConnection(path: path, access: .readWrite)
        try StateSchema.configure(writer)
        try writer.execute("PRAGMA journal_mode = WAL")
        try writer.execute("CREATE TABLE page (id INTEGER PRIMARY KEY, content BLOB)")
        try writer.execute(more)
        let reader = try SQLiteConnection(path: path, access: .readOnly)
        try reader.execute("BEGIN")
        #expect(try reader.integer("SELECT count(*) FROM page") == 60)
        // The reader keeps the checkpoint from what comes now, and so from a sync at its end.
        try writer.execute(more)
        try writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        let later = try SQLiteConnection(path: path, access: .readOnly)
        #expect(try later.integer("SELECT count(*) FROM page") == 120)
        #expect(
            try later.integer("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'")
                == 0)
        try reader.execute("COMMIT")
    }
}
