import Glibc
import Testing

@testable import HTTP

/// Replays the fuzzer's seeds and every input that once failed.
struct FuzzCasesTests {
    private func files(in folder: String, of target: String) -> [(name: String, bytes: [UInt8])] {
        let tests = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
        let path = "/\(tests)/Fuzz/\(folder)/\(target)"
        guard let directory = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(directory) }
        var files: [(name: String, bytes: [UInt8])] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            let file = unsafe open("\(path)/\(name)", O_RDONLY)
            defer { close(file) }
            var bytes = [UInt8](repeating: 0, count: 1_048_576)
            let count = unsafe read(file, &bytes, bytes.count)
            if count >= 0, !name.hasPrefix(".") { files.append((name, Array(bytes.prefix(count)))) }
        }
        return files
    }

    @Test func `every seed and every failure of the past holds the properties`() {
        let seeds = files(in: "Corpus", of: "HTTP1")
        #expect(seeds.count >= 5)
        let chunked = Array("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
        for (name, bytes) in seeds + files(in: "FailCases", of: "HTTP1") {
            let steps = Array(1...32)
            #expect(HTTP1Property.violation(bytes, steps: steps) == nil, "\(name)")
            #expect(HTTP1Property.violation(chunked + bytes, steps: steps) == nil, "\(name)")
            #expect(HTTP1Property.decodingViolation(bytes) == nil, "\(name)")
            #expect(HTTP1Property.writerViolation(bytes) == nil, "\(name)")
        }
    }
    @Test func `every seed and every failure of frames holds the properties`() {
        let seeds = files(in: "Corpus", of: "HTTP2")
        #expect(seeds.count >= 5)
        for (name, bytes) in seeds + files(in: "FailCases", of: "HTTP2") where bytes.count > 2 {
            let input = HTTP2Property.input(bytes)
            #expect(HTTP2Property.violation(input, steps: Array(1...32)) == nil, "\(name)")
            for delay in 0..<8 {
                for step in [1, 4, 17, 64, 128] {
                    let violation = HTTP2Property.serviceViolation(input, step: step, delay: delay)
                    #expect(violation == nil, "\(name)")
                }
            }
        }
    }
}
