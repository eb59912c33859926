import Foundation
import Testing

@testable import Artifacts

@Suite struct RotatedLogTests {
    private func inFolder(_ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "recserver-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    private func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    private func text(_ folder: String) throws -> String {
        try names(folder).map { try String(contentsOfFile: folder + "/" + $0, encoding: .utf8) }.joined()
    }

    private func log(_ folder: String, fileBytes: Int = 100, files: Int = 3) -> RotatedLog {
        RotatedLog(folder: folder, name: "log", fileBytes: fileBytes, files: files)
    }

    /// Forty bytes.
    private func line(_ number: Int) -> String {
        let digits = String(number)
        return "line " + String(repeating: "0", count: 34 - digits.count) + digits + "\n"
    }

    @Test func `lines stay in order, a full file is followed by the next, the oldest go`() throws {
        try inFolder { folder in
            let log = log(folder)
            for number in 0..<9 { try log.append(Array(line(number).utf8)) }
            #expect(
                try names(folder) == [
                    "log-0000000003.ndjson", "log-0000000004.ndjson", "log-0000000005.ndjson",
                ])
            #expect(try text(folder) == (4..<9).map(line).joined())
        }
    }

    @Test func `an append larger than a file is a file of its own, whole`() throws {
        try inFolder { folder in
            let log = log(folder)
            let large = (0..<10).map(line).joined()
            for text in [line(0), large, line(1)] { try log.append(Array(text.utf8)) }
            #expect(try names(folder).count == 3)
            #expect(try text(folder) == line(0) + large + line(1))
        }
    }

    @Test func `another start goes on in the same file`() throws {
        try inFolder { folder in
            for number in 0..<2 { try log(folder).append(Array(line(number).utf8)) }
            #expect(try names(folder) == ["log-0000000001.ndjson"])
            try log(folder).append(Array(line(2).utf8))
            #expect(try names(folder).count == 2)
            #expect(try text(folder) == (0..<3).map(line).joined())
        }
    }

    @Test func `a last line torn at any byte is cut off, and nothing else`() throws {
        try inFolder { folder in
            let path = folder + "/log-0000000001.ndjson"
            let whole = Array((line(0) + line(1)).utf8)
            for end in 0...whole.count {
                try log(folder).open()
                try Data(whole[..<end]).write(to: URL(filePath: path))
                let log = log(folder, fileBytes: 1000)
                try log.append(Array("next\n".utf8))
                let kept = (0..<end / 40).map(line).joined()
                #expect(try String(contentsOfFile: path, encoding: .utf8) == kept + "next\n")
            }
        }
    }

    @Test func `a torn line longer than what is read at a time is cut off`() throws {
        try inFolder { folder in
            try log(folder).open()
            let path = folder + "/log-0000000001.ndjson"
            for kept in ["", "first\n"] {
                try Data(Array(kept.utf8) + [UInt8](repeating: 0, count: 200_000)).write(
                    to: URL(filePath: path))
                try log(folder, fileBytes: 1 << 20).append(Array("next\n".utf8))
                #expect(try String(contentsOfFile: path, encoding: .utf8) == kept + "next\n")
            }
        }
    }

    @Test func `two writers on a folder do not share a file`() throws {
        try inFolder { folder in
            let (first, second) = (log(folder), log(folder))
            try first.append(Array("a\n".utf8))
            try second.append(Array("b\n".utf8))
            try first.append(Array("a\n".utf8))
            #expect(try names(folder).count == 2)
            #expect(try text(folder) == "a\na\nb\n")
        }
    }

    @Test func `a folder in trouble is written again once it is well`() throws {
        try inFolder { folder in
            try Data().write(to: URL(filePath: folder))
            let log = log(folder)
            #expect(throws: BundleError.self) { try log.open() }
            #expect(throws: BundleError.self) { try log.append(Array(line(0).utf8)) }
            try FileManager.default.removeItem(atPath: folder)
            try log.append(Array(line(1).utf8))
            #expect(try text(folder) == line(1))
            // Somebody tidies up under the writer.
            try FileManager.default.removeItem(atPath: folder)
            try log.append(Array(line(2).utf8))
            #expect(try text(folder) == line(2))
        }
    }

    @Test func `files of other names are left alone`() throws {
        try inFolder { folder in
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let others = [
                "log-1.ndjson", "log-00000000x1.ndjson", "other-0000000001.ndjson", "log-0000000001.json",
                "log-99999999999999999999.ndjson", "log-0000000000.ndjson",
            ]
            for name in others { try Data("x".utf8).write(to: URL(filePath: folder + "/" + name)) }
            let log = log(folder, files: 1)
            for number in 0..<6 { try log.append(Array(line(number).utf8)) }
            #expect(try Set(names(folder)) == Set(others + ["log-0000000003.ndjson"]))
        }
    }
}
