import TestSupport
import Testing

@testable import HTTP

struct ContentCodingTests {
    @Test(
        arguments: [
            ([], nil), (["gzip"], .gzip), (["GZip"], .gzip), (["x-gzip"], .gzip), (["zstd"], .zstd),
            (["gzip, deflate, br, zstd"], .zstd), (["gzip", "zstd"], .zstd),
            (["gzip;q=1, zstd;q=0.9"], .gzip),
            (["gzip;q=0"], nil), (["gzip; q=0.001"], .gzip), (["*"], .zstd), (["*;q=0.1, zstd;q=0"], .gzip),
            (["*;q=0"], nil), (["identity"], nil), (["identity;q=0"], nil), (["identity;q=0, *"], .zstd),
            (["identity;q=0.5, gzip;q=1"], .gzip), (["identity;q=1, gzip;q=0.5"], nil),
            (["br, deflate"], nil),
            (["gzip;q=2"], nil), (["gzip;q=0.1234"], nil), (["gzip;q="], nil), (["gzip;q=1.001"], nil),
            (["gzip;q=1.000"], .gzip), (["gzip;q=.5"], nil), ([" , ,gzip ;\tq=0.5 ,"], .gzip),
            ([String(repeating: "a,", count: 8_000) + "gzip"], .gzip),
        ] as [([String], ContentCoding?)])
    func `the coding is the one the client likes best`(values: [String], coding: ContentCoding?) {
        #expect(ContentCoding(acceptEncoding: values) == coding)
    }

    @Test func `contents come back as they were, from one encoder for all`() throws {
        let encoder = ContentEncoder()
        var random = SeededRandom(3)
        for size in [2, 100, 1_024, 70_000, 1_000_000] {
            let content = (0..<size).map { _ in UInt8.random(in: 0..<4, using: &random) }
            let gzip = encoder.encode(content, as: .gzip)
            let zstd = encoder.encode(content, as: .zstd)
            guard size >= 100 else {
                #expect(gzip == nil && zstd == nil)
                continue
            }
            let small = try #require(gzip)
            #expect(small.count < size / 2 + 20)
            #expect(try GzipDecoder.decode(small, limit: size) == content)
            #expect(throws: GzipDecoder.Failure.tooLarge) {
                try GzipDecoder.decode(small, limit: size - 1)
            }
            #expect(try #require(zstd).prefix(4) == [0x28, 0xB5, 0x2F, 0xFD])
        }
        let noise = (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }
        #expect(encoder.encode(noise, as: .gzip) == nil && encoder.encode(noise, as: .zstd) == nil)
        #expect(encoder.encode([], as: .zstd) == nil)
    }

    @Test func `several members are one content, and what is damaged anywhere is refused`() throws {
        let content = Array("a line of text, a line of text, a line of text, a line of text\n".utf8)
        let member = try #require(ContentEncoder().encode(content, as: .gzip))
        #expect(try GzipDecoder.decode(member + member, limit: 1_000) == content + content)
        #expect(throws: GzipDecoder.Failure.tooLarge) {
            try GzipDecoder.decode(member + member, limit: content.count * 2 - 1)
        }
        for count in 0..<member.count {
            #expect(throws: GzipDecoder.Failure.damaged) {
                try GzipDecoder.decode(Array(member.prefix(count)), limit: 1_000)
            }
        }
        for tail in [[0], [0x1F], Array(member.prefix(12))] as [[UInt8]] {
            #expect(throws: GzipDecoder.Failure.damaged) {
                try GzipDecoder.decode(member + tail, limit: 1_000)
            }
        }
        for position in member.indices where position != 9 && !(4..<8).contains(position) {
            var damaged = member
            damaged[position] ^= 0x20
            // The operating system's byte and the time are nobody's concern; flags may add fields.
            let decoded = try? GzipDecoder.decode(damaged, limit: 1_000)
            #expect(decoded == nil || decoded == content, "\(position)")
        }
    }

    @Test func `a bomb goes no further than its ratio`() throws {
        let content = [UInt8](repeating: 0x20, count: 8 << 20)
        let bomb = try #require(ContentEncoder(gzipLevel: 9).encode(content, as: .gzip))
        #expect(content.count / bomb.count > 900)
        #expect(throws: GzipDecoder.Failure.tooLarge) { try GzipDecoder.decode(bomb, limit: 64 << 20) }
        let small = try #require(ContentEncoder().encode([UInt8](content.prefix(65_536)), as: .gzip))
        #expect(try GzipDecoder.decode(small, limit: 1 << 20).count == 65_536)
    }

    @Test func `every seed and every failure of the past holds the properties`() throws {
        let inputs = try FuzzInputs.all(of: "Gzip")
        #expect(inputs.count >= 3)
        for (name, bytes) in inputs { #expect(GzipProperty.violation(bytes) == nil, "\(name)") }
    }
}
