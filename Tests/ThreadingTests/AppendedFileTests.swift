import Foundation
import Testing
import Threading

@Suite struct AppendedFileTests {
    private let path = NSTemporaryDirectory() + "appended-" + UUID().uuidString

    private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

    @Test func `lines are added at the end, by several at once, and to a new file once it is closed`() throws
    {
        defer { for path in [path, path + ".1"] { try? FileManager.default.removeItem(atPath: path) } }
        let (one, other) = (AppendedFile(path: path), AppendedFile(path: path))
        var lines = Array("a\nb\n".utf8)
        try one.append(&lines)
        #expect(lines.isEmpty)
        lines = Array("c\n".utf8)
        try other.append(&lines)
        try FileManager.default.moveItem(atPath: path, toPath: path + ".1")
        lines = Array("d\n".utf8)
        try one.append(&lines)
        one.close()
        lines = Array("e\n".utf8)
        try one.append(&lines)
        #expect(try text(path + ".1") == "a\nb\nc\nd\n")
        #expect(try text(path) == "e\n")
    }

    @Test func `what a full disk did not take is still there`() throws {
        let file = AppendedFile(path: "/dev/full")
        var lines = Array("a\n".utf8)
        #expect(throws: StreamError.self) { try file.append(&lines) }
        #expect(lines == Array("a\n".utf8))
        let nowhere = AppendedFile(path: path + "/no/such")
        #expect(throws: StreamError.self) { try nowhere.open() }
    }

    @Test func `of a line that is torn between two files the rest is left out`() throws {
        let fifo = path + ".pipe"
        defer { for path in [path, fifo] { try? FileManager.default.removeItem(atPath: path) } }
        let made = unsafe mkfifo(fifo, 0o600)
        #expect(made == 0)
        let reader = unsafe open(fifo, O_RDONLY | O_NONBLOCK)
        let file = AppendedFile(path: fifo)
        // More than a pipe holds, so that only a part is taken.
        var lines = [UInt8](repeating: 0x61, count: 1 << 20) + Array("\nnext\n".utf8)
        #expect(throws: StreamError.self) { try file.append(&lines) }
        #expect(lines.count < 1 << 20)
        close(reader)
        file.close()
        try FileManager.default.removeItem(atPath: fifo)
        try file.append(&lines)
        #expect(try text(fifo) == "next\n")
    }
}
