import Foundation
import Testing

@testable import UserState

@Suite struct StateLogTests {
    private static let (header, frame) = (32, 24 + 4096)

    private static func loss(_ log: [UInt8]) -> StateLogLoss {
        StateLog.loss(size: log.count) { Array(log.dropFirst($0).prefix($1)) }
    }

    /// A log of several commits, and where each of them ends.
    private func log() throws -> (bytes: [UInt8], ends: [Int]) {
        let folder = TemporaryFolder()
        let store = try SQLiteStore(directory: folder.path)
        for number in 1...6 {
            let events = (0..<20).map { ("u\(number)-\($0)", event("\(number)", Double(number))) }
            _ = try store.make([.append(events)])
        }
        // SQLite has no more to do with what is read here: nothing is opened again.
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: folder.path + "/state.db-wal")))
        var ends: [Int] = []
        for place in stride(from: Self.header, to: bytes.count, by: Self.frame)
        where bytes[place + 4..<place + 8] != [0, 0, 0, 0] {
            ends.append(place + Self.frame)
        }
        return (bytes, ends)
    }

    @Test func `every cut and every wrong byte is counted, and a whole log loses nothing`() throws {
        let (log, ends) = try log()
        #expect(ends.count >= 6 && ends.last == log.count)
        #expect(Self.loss(log) == StateLogLoss())
        #expect(Self.loss([]) == StateLogLoss())
        for cut in stride(from: 1, to: log.count, by: 977) {
            let found = Self.loss(Array(log[..<cut]))
            let whole = ends.last { $0 <= cut } ?? (cut < Self.header ? 0 : Self.header)
            #expect(found.bytes == cut - whole, "cut at \(cut)")
            #expect(found.commits <= 1)
        }
        for place in stride(from: 0, to: log.count, by: 991) {
            var damaged = log
            damaged[place] ^= 1 << UInt8(place % 8)
            let found = Self.loss(damaged)
            // The page size is part of the header: where it is wrong nothing can be told apart.
            guard place >= Self.header else {
                #expect(found.bytes > 0)
                continue
            }
            let whole = ends.last { $0 <= place } ?? Self.header
            #expect(found.bytes == log.count - whole, "wrong at \(place)")
            let after = ends.count { $0 > place }
            #expect((after - 1...after).contains(found.commits))
        }
    }

    @Test func `frames of an older log behind the newest are no loss`() throws {
        let (whole, ends) = try log()
        var log = whole
        let first = try #require(ends.first)
        for place in stride(from: first, to: log.count, by: Self.frame) {
            log.replaceSubrange(place + 8..<place + 16, with: [9, 9, 9, 9, 8, 8, 8, 8])
        }
        #expect(Self.loss(log) == StateLogLoss())
    }
}
