import Kernels
import Testing

@testable import Artifacts

@Suite struct SafeTensorsTests {
    /// A file with one tensor of each kind.
    func sample() -> [UInt8] {
        var writer = SafeTensorsWriter()
        writer.add("m", Matrix(rows: 2, columns: 3, values: [1, 2, 3, 4, 5, 6]))
        writer.add("d", doubles: [1.5, -2])
        writer.add("o", unsigned64: [0, 2, 2, 5])
        writer.add("u", unsigned32: [3, 0, 7])
        writer.add("s", strings: ["", "é", "abc"])
        return writer.file()
    }

    func tensors(_ bytes: [UInt8]) throws -> BundleTensors {
        try BundleTensors(files: [("t.safetensors", FileBytes(bytes))])
    }

    /// A file from a header text and data.
    func file(_ header: String, _ data: Int) -> [UInt8] {
        var text = Array(header.utf8)
        while text.count % 8 != 0 { text.append(0x20) }
        return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text
            + [UInt8](repeating: 0, count: data)
    }

    @Test func `what was written is read, and an unread tensor is named`() throws {
        let tensors = try tensors(sample())
        #expect(try tensors.matrix("m", rows: 2, columns: 3).copyRow(1) == [4, 5, 6])
        #expect(try tensors.doubles("d", count: 2) == [1.5, -2])
        #expect(try tensors.offsets("o", count: 3, total: 5) == [0, 2, 2, 5])
        #expect(try tensors.integers("u", count: 3, below: 8) == [3, 0, 7])
        #expect(throws: BundleError.self) { try tensors.refuseUnread() }
        let strings = try tensors.strings("s", count: 3)
        #expect((0..<3).map { strings[$0] } == ["", "é", "abc"])
        try tensors.refuseUnread()
    }

    @Test func `a wrong shape, type, bound or name is refused naming the tensor`() throws {
        let tensors = try tensors(sample())
        let attempts: [() throws -> Void] = [
            { _ = try tensors.matrix("m", rows: 3, columns: 2) },
            { _ = try tensors.matrix("u", rows: 1, columns: 3) },
            { _ = try tensors.vector("m", count: 6) }, { _ = try tensors.doubles("o", count: 4) },
            { _ = try tensors.integers("u", count: 3, below: 7) },
            { _ = try tensors.offsets("o", count: 3, total: 6) }, { _ = try tensors.strings("s", count: 2) },
            { _ = try tensors.matrix("none", rows: 1, columns: 1) },
        ]
        for attempt in attempts { #expect(throws: BundleError.self) { try attempt() } }
    }

    @Test func `I8 tables are scaled by row and halves widened`() throws {
        let header =
            #"{"t":{"dtype":"I8","shape":[2,2],"data_offsets":[4,8]},"t.scale":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#
        var bytes = file(header, 0)
        bytes += [0x00, 0x3C, 0x00, 0x38] + [1, 0xFF, 2, 0x80]  // scales 1 and 0.5; rows (1, -1) and (2, -128)
        let table = try tensors(bytes).matrix("t", rows: 2, columns: 2)
        #expect(table.copyRow(0) == [1, -1] && table.copyRow(1) == [1, -64])
    }

    @Test func `NaN and infinity are refused`() throws {
        for bad in [Float.nan, .infinity] {
            let tensors = try BundleTensors(matrices: ["m": Matrix(rows: 1, columns: 2, values: [0, bad])])
            #expect(throws: BundleError.self) { try tensors.matrix("m", rows: 1, columns: 2) }
        }
    }

    @Test(arguments: [
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 8),  // trailing bytes
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),  // a gap
        (
            #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4
        ),  // overlap
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),  // shape and size differ
        (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4),
        (#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}"#, 4),
        (#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4),
        (#"{"a":{"dtype":"F32","shape":[4611686018427387904,4,4],"data_offsets":[0,0]}}"#, 0),  // overflow
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]}}"#, 4), (#"[1]"#, 0),
        (#"{"a":1}"#, 0), (#"{"a":{}}"#, 0), ("", 0),
        (
            #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#,
            5
        ),  // misaligned
        (
            #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4
        ),
    ])
    func `a header that lies is refused`(header: String, data: Int) {
        #expect(throws: BundleError.self) { try tensors(file(header, data)) }
    }

    @Test func `every truncation of a file is refused and no flipped bit crashes`() throws {
        let whole = sample()
        for end in 0..<whole.count { #expect(throws: BundleError.self) { try tensors(Array(whole[..<end])) } }
        for position in 0..<whole.count {
            for bit in 0..<8 {
                var bytes = whole
                bytes[position] ^= 1 << bit
                guard let tensors = try? tensors(bytes) else { continue }
                _ = try? tensors.matrix("m", rows: 2, columns: 3)
                _ = try? tensors.doubles("d", count: 2)
                _ = try? tensors.offsets("o", count: 3, total: 5)
                _ = try? tensors.integers("u", count: 3, below: 8)
                _ = try? tensors.strings("s", count: 3)
            }
        }
    }

    @Test func `sha256 agrees with the standard's vectors`() {
        #expect(Digest.sha256([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(
            Digest.sha256(Array("abc".utf8))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(Digest.sha256(FileBytes(Array("abc".utf8))) == Digest.sha256(Array("abc".utf8)))
    }
}
