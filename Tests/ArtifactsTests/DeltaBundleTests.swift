import Foundation
import Kernels
import TestSupport
import Testing

@testable import Artifacts

/// Bundles of a tensor or two, one upon another, each in a folder of one temporary folder.
private final class Shelf {
    let path = NSTemporaryDirectory() + "recserver-" + UUID().uuidString
    private(set) var digests: [String: String] = [:]

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes a bundle whose tensors `fill` adds; a delta of the bundle named `base` when there is one.
    func add(
        _ name: String, base: String? = nil, removed: [String] = [], others: [String: [UInt8]] = [:],
        _ fill: (inout SafeTensorsWriter) -> Void
    ) throws {
        var writer = SafeTensorsWriter()
        fill(&writer)
        let files = others.merging(["t.safetensors": writer.file()]) { own, _ in own }
        let entries = files.sorted { $0.key < $1.key }.map { file, bytes in
            "\"\(file)\":{\"sha256\":\"\(Digest.sha256(bytes))\",\"bytes\":\(bytes.count)}"
        }
        let quoted = removed.map { "\"\($0)\"" }.joined(separator: ",")
        let kind = try base.map {
            #""kind":"delta","base_sha256":"\#(try #require(digests[$0]))","removed":[\#(quoted)]"#
        }
        let manifest = """
            {"format_version":1,\(kind ?? #""kind":"full""#),"model_version":"\(name)","space_version":"s",
            "files":{\(entries.joined(separator: ","))},"items":{"count":2},
            "retrieval":{"metric":"l2","dimension":2,"index":{"kind":"flat"},"sources":{"popular":5}}}
            """
        try FileManager.default.createDirectory(
            atPath: path + "/" + name, withIntermediateDirectories: true)
        for (file, bytes) in files { try write(bytes, name + "/" + file) }
        try write(Array(manifest.utf8), name + "/manifest.json")
        digests[name] = Digest.sha256(Array(manifest.utf8))
    }

    func write(_ bytes: [UInt8], _ file: String) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + file))
    }

    func open(_ name: String, bases: [String]? = nil) throws(BundleError) -> BundleFolder {
        try BundleFolder(path: path + "/" + name, bases: bases ?? [path])
    }

    func refusal(_ name: String, bases: [String]? = nil) -> BundleError? {
        do throws(BundleError) {
            _ = try open(name, bases: bases)
            return nil
        } catch {
            return error
        }
    }
}

@Suite struct DeltaBundleTests {
    static func base(_ writer: inout SafeTensorsWriter) {
        writer.add("m", floats: [1, 2, 3, 4, 5, 6], shape: [3, 2])
        writer.add("words", strings: ["a", "bc"])
        writer.add("old", doubles: [1, 2])
        writer.add("whole", unsigned32: [7, 8])
        writer.add("none", floats: [], shape: [0, 2])
        writer.add("flags", bytes: [1, 0, 1])
        writer.add("one", floats: [1], shape: [])
    }

    private func shelf(
        removed: [String] = [], _ fill: (inout SafeTensorsWriter) -> Void
    ) throws -> Shelf {
        let shelf = Shelf()
        try shelf.add("base", others: ["warmup.jsonl": [0x7B, 0x7D]], Self.base)
        try shelf.add("delta", base: "base", removed: removed, fill)
        return shelf
    }

    @Test func `rows are patched and appended, tensors replaced, added and removed`() throws {
        let shelf = try shelf(removed: ["old"]) { writer in
            writer.add("patch.m.rows", unsigned32: [0, 2])
            writer.add("patch.m.values", floats: [-1, -2, -5, -6], shape: [2, 2])
            writer.add("append.m", floats: [9, 10], shape: [1, 2])
            writer.add("append.words.bytes", bytes: Array("def".utf8))
            writer.add("append.words.offsets", unsigned64: [3, 6])
            writer.add("append.none", floats: [1, 1], shape: [1, 2])
            writer.add("whole", doubles: [0.5])
            writer.add("fresh", bytes: [3])
            writer.add("patch.flags.rows", unsigned32: [])
            writer.add("patch.flags.values", bytes: [])
        }
        let folder = try shelf.open("delta")
        let tensors = folder.tensors
        #expect(
            try tensors.matrix("m", rows: 4, columns: 2).view.copy() == [-1, -2, 3, 4, -5, -6, 9, 10])
        let words = try tensors.strings("words", count: 4)
        #expect((0..<4).map { words[$0] } == ["a", "bc", "", "def"])
        #expect(try tensors.matrix("none", rows: 1, columns: 2).view.copy() == [1, 1])
        #expect(try tensors.doubles("whole", count: 1) == [0.5])
        #expect(try tensors.bytes("fresh", count: 1) == [3])
        #expect(try tensors.bytes("flags", count: 3) == [1, 0, 1])
        #expect(!tensors.contains("old") && !tensors.contains("append.m"))
        #expect(#expect(throws: BundleError.self) { try tensors.refuseUnread() }?.tensor == "one")
        #expect(folder.digest == shelf.digests["delta"] && folder.bases == [shelf.path + "/base"])
        // Requests and goldens belong to the bundle they were made with.
        #expect(folder.optionalFile("warmup.jsonl") == nil)
        #expect(try shelf.open("base").optionalFile("warmup.jsonl") != nil)
    }

    @Test func `every edit of a random tensor is what the edited array would be`() throws {
        var random = SeededRandom(31)
        for _ in 0..<40 {
            let count = Int.random(in: 1...9, using: &random)
            let added = Int.random(in: 0...4, using: &random)
            var expected = (0..<count * 3).map { Float($0) }
            let old = expected
            let rows = (0..<count).filter { _ in Bool.random(using: &random) }
            let values = (0..<rows.count * 3).map { Float(100 + $0) }
            for (index, row) in rows.enumerated() {
                expected.replaceSubrange(row * 3..<row * 3 + 3, with: values[index * 3..<index * 3 + 3])
            }
            let appended = (0..<added * 3).map { Float(-$0) }
            expected += appended
            let shelf = Shelf()
            try shelf.add("base") { $0.add("m", floats: old, shape: [count, 3]) }
            try shelf.add("delta", base: "base") { writer in
                writer.add("patch.m.rows", unsigned32: rows.map(UInt32.init))
                writer.add("patch.m.values", floats: values, shape: [rows.count, 3])
                writer.add("append.m", floats: appended, shape: [added, 3])
            }
            let tensors = try shelf.open("delta").tensors
            #expect(try tensors.matrix("m", rows: count + added, columns: 3).view.copy() == expected)
        }
    }

    /// A delta's tensors that do not fit the base, and the one to blame.
    struct Misfit: Sendable {
        let tensor: String
        var expected = ""
        let fill: @Sendable (inout SafeTensorsWriter) -> Void

        init(
            _ tensor: String, _ expected: String = "",
            _ fill: @escaping @Sendable (inout SafeTensorsWriter) -> Void
        ) {
            self.tensor = tensor
            self.expected = expected
            self.fill = fill
        }

        /// Patches `m` with these rows and as many values.
        static func rows(_ expected: String, _ rows: [UInt32]) -> Misfit {
            Misfit("patch.m.rows", expected) {
                $0.add("patch.m.rows", unsigned32: rows)
                $0.add(
                    "patch.m.values", floats: .init(repeating: 0, count: rows.count * 2),
                    shape: [rows.count, 2])
            }
        }

        /// Patches row 0 of `m` with a tensor that `values` adds.
        static func values(
            _ expected: String, _ values: @escaping @Sendable (inout SafeTensorsWriter) -> Void
        ) -> Misfit {
            Misfit("patch.m.values", expected) {
                $0.add("patch.m.rows", unsigned32: [0])
                values(&$0)
            }
        }
    }

    static let misfits: [Misfit] = [
        .rows("rising rows from 2 to below 3", [1, 1]), .rows("rising rows from 3", [2, 0]),
        .rows("below 3", [0, 3]), .rows("below 3", [0, .max]), .rows("below 3", [0, 1, 2, 3]),
        Misfit("patch.m.rows", "U32 of rank 1") {
            $0.add("patch.m.rows", floats: [0], shape: [1])
            $0.add("patch.m.values", floats: [1, 2], shape: [1, 2])
        },
        Misfit("patch.m.rows", "U32 of rank 1") {
            $0.add("patch.m.rows", unsigned64: [0])
            $0.add("patch.m.values", floats: [1, 2], shape: [1, 2])
        },
        Misfit("patch.m.values", "this tensor") { $0.add("patch.m.rows", unsigned32: [0]) },
        Misfit("patch.m.rows", "this tensor") { $0.add("patch.m.values", floats: [1, 2], shape: [1, 2]) },
        .values("F32 [rows, 2]") { $0.add("patch.m.values", floats: [1, 2, 3], shape: [1, 3]) },
        .values("1 rows") { $0.add("patch.m.values", floats: [1, 2, 3, 4], shape: [2, 2]) },
        .values("F32 [rows, 2]") { $0.add("patch.m.values", doubles: [1]) },
        .values("F32 [rows, 2]") { $0.add("patch.m.values", floats: [1], shape: []) },
        Misfit("append.m", "F32 [rows, 2]") { $0.add("append.m", floats: [1, 2, 3], shape: [1, 3]) },
        Misfit("append.m", "F32 [rows, 2]") { $0.add("append.m", floats: [1, 2], shape: [2]) },
        Misfit("append.m", "F32 [rows, 2]") { $0.add("append.m", floats: [1], shape: []) },
        Misfit("append.flags", "U8 [rows]") { $0.add("append.flags", unsigned32: [1]) },
        Misfit("append.one", "rank 1 or more") { $0.add("append.one", floats: [1], shape: []) },
        Misfit("append.nothing", "in the base") { $0.add("append.nothing", bytes: [1]) },
        Misfit("patch.nothing.rows", "in the base") { $0.add("patch.nothing.rows", unsigned32: [1]) },
        Misfit("patch.nothing.values", "in the base") { $0.add("patch.nothing.values", bytes: [1]) },
        Misfit("append.whole", "stays") {
            $0.add("whole", unsigned32: [1])
            $0.add("append.whole", unsigned32: [1])
        },
        Misfit("append.old", "stays") { $0.add("append.old", doubles: [1]) },
        Misfit("old", "replaced or removed") { $0.add("old", doubles: [1]) },
    ]

    @Test(arguments: misfits)
    func `an edit that does not fit the base is refused by name`(misfit: Misfit) throws {
        let error = try shelf(removed: ["old"], misfit.fill).refusal("delta")
        let text = error?.description ?? "loads"
        #expect(error?.file == "t.safetensors" && error?.tensor == misfit.tensor, "\(text)")
        #expect(error?.expected.contains(misfit.expected) == true, "\(text)")
    }

    @Test func `names that only look like edits are tensors nobody knows`() throws {
        for name in ["patch.m", "patch..rows", "patch.rows", "patch.m.row"] {
            let shelf = try shelf { $0.add(name, bytes: [1]) }
            #expect(try shelf.open("delta").tensors.contains(name))
        }
    }

    @Test func `a base is found by its digest alone, and named when it is not`() throws {
        let shelf = try shelf { $0.add("fresh", bytes: [1]) }
        #expect(shelf.refusal("delta") == nil)
        #expect(shelf.refusal("delta", bases: [shelf.path + "/base"]) == nil)
        for bases in [[], [shelf.path + "/delta"], ["/nowhere"], [shelf.path + "/base/t.safetensors"]] {
            let error = shelf.refusal("delta", bases: bases)
            #expect(error?.file == "manifest.json" && error?.tensor == "/base_sha256")
            #expect(error?.expected.contains(shelf.digests["base"] ?? "-") == true)
        }
        let removed = try self.shelf(removed: ["nothing"]) { _ in }
        #expect(removed.refusal("delta")?.tensor == "/removed")
    }

    @Test func `what is wrong in a base is named as the base's`() throws {
        for (file, bytes) in [("t.safetensors", [1, 2, 3]), ("extra", [])] as [(String, [UInt8])] {
            let shelf = try shelf { $0.add("fresh", bytes: [1]) }
            try shelf.write(bytes, "base/" + file)
            #expect(shelf.refusal("delta")?.file == "base/" + file)
        }
    }

    @Test func `deltas stand on deltas up to the maximum`() throws {
        let shelf = Shelf()
        try shelf.add("v0", Self.base)
        for version in 1...BundleFolder.deltaMaximum + 1 {
            try shelf.add("v\(version)", base: "v\(version - 1)") { writer in
                writer.add("patch.m.rows", unsigned32: [UInt32(version % 3)])
                writer.add("patch.m.values", floats: [Float(version), 0], shape: [1, 2])
            }
        }
        let folder = try shelf.open("v\(BundleFolder.deltaMaximum)")
        #expect(try folder.tensors.matrix("m", rows: 3, columns: 2).view.copy() == [6, 0, 7, 0, 8, 0])
        #expect(folder.bases.count == BundleFolder.deltaMaximum)
        let error = shelf.refusal("v\(BundleFolder.deltaMaximum + 1)")
        #expect(error?.expected.contains("at most \(BundleFolder.deltaMaximum) deltas") == true)
        try shelf.write([1], "v0/t.safetensors")
        #expect(shelf.refusal("v2")?.file == "base/base/t.safetensors")
    }
}

@Suite struct KeptFilesTests {
    @Test func `the files used last are kept, and others are nobody's business`() throws {
        let shelf = Shelf()
        try shelf.add("f") { _ in }
        let folder = shelf.path + "/f"
        let names = (0..<6).map { String(repeating: "\($0)", count: 64) + ".faiss" }
        let strangers = ["short.faiss", String(repeating: "g", count: 64) + ".faiss"]
        for (age, name) in names.enumerated() {
            try shelf.write([1], "f/" + name)
            try shelf.write([2], "f/" + name + ".sha256")
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSince1970: 1_000_000 - Double(age))],
                ofItemAtPath: folder + "/" + name)
        }
        for name in strangers { try shelf.write([1], "f/" + name) }
        KeptFiles.touch(folder + "/" + names[5])
        KeptFiles.touch(folder + "/not-there")
        let removed = KeptFiles.prune(folder, suffix: ".faiss", companion: ".sha256", keeping: 3)
        #expect(Set(removed) == Set(names[2...4]))
        let left = try Set(FileManager.default.contentsOfDirectory(atPath: folder))
        let kept = [names[0], names[1], names[5]]
        #expect(
            left == Set(kept + kept.map { $0 + ".sha256" } + strangers + ["manifest.json", "t.safetensors"]))
        #expect(KeptFiles.prune(folder, suffix: ".faiss", companion: ".sha256", keeping: 3).isEmpty)
        #expect(KeptFiles.prune("/nowhere", suffix: "", companion: "", keeping: 0).isEmpty)
    }
}
