import Glibc
import Kernels
import Testing

@testable import Artifacts

@Suite struct SafeTensorsFileTests {
    /// A path of its own, removed at the end.
    func atPath(_ body: (String) throws -> Void) throws {
        let path = "/tmp/recserver-tensors-\(getpid())-\(UInt64.random(in: 0 ... .max)).safetensors"
        defer { _ = unsafe unlink(path) }
        try body(path)
    }

    @Test func `what was written in parts is read, under the digest that was told`() throws {
        try atPath { path in
            let file = try SafeTensorsFile(
                path: path, name: "t",
                tensors: [
                    .u64("o", 3), .f64("d", 1), .f32("m", [2, 3]), .u32("none", 0), .u32("u", 2),
                    .f16("h", [1, 2]), .u8("b", 3),
                ])
            try file.append([UInt64(0), 2, 5])
            try file.append([1.5])
            try file.append([Float(1), 2])
            try file.append([Float]())
            try file.append([Float(3), 4, 5, 6])
            try file.append([UInt32(7), 9])
            try file.append([Float16(0.5).bitPattern, Float16(-2).bitPattern])
            try file.append([UInt8(1), 2, 3])
            let end = try file.finish()
            let bytes = try FileBytes(path: path, name: "t", maximum: 1 << 20)
            #expect(end.byteCount == bytes.count && end.sha256 == Digest.sha256(bytes))
            let tensors = try BundleTensors(files: [("t", bytes)])
            #expect(try tensors.offsets("o", count: 2, total: 5) == [0, 2, 5])
            #expect(try tensors.doubles("d", count: 1) == [1.5])
            #expect(try tensors.matrix("m", rows: 2, columns: 3).copyRow(1) == [4, 5, 6])
            #expect(try tensors.integers("none", count: 0, below: 1) == [])
            #expect(try tensors.integers("u", count: 2, below: 10) == [7, 9])
            #expect(try tensors.matrix("h", rows: 1, columns: 2).copyRow(0) == [0.5, -2])
            #expect(try tensors.bytes("b", count: 3) == [1, 2, 3])
        }
    }

    @Test func `a file that cannot be made is refused with the reason`() {
        #expect(throws: BundleError.self) {
            try SafeTensorsFile(path: "/nowhere/t.safetensors", name: "t", tensors: [.u8("b", 1)])
        }
    }
}
