import Artifacts
import Foundation
import Kernels
import Logging
import Retrieval
import TestSupport
import Testing

@testable import RecServer

/// A kept index that is damaged is made again: never believed, never a reason to refuse the bundle.
@Suite struct IndexDamageTests {
    /// What happens to the index and to the digest beside it.
    struct Damage: Sendable {
        let title: String
        let apply: @Sendable (_ index: inout [UInt8]?, _ digest: inout [UInt8]?) -> Void

        init(_ title: String, _ apply: @escaping @Sendable (inout [UInt8]?, inout [UInt8]?) -> Void) {
            self.title = title
            self.apply = apply
        }
    }

    /// At each place one byte of the index or of its digest is another.
    static let flips: [Damage] =
        [0, 1, 3, 4, 8, 12, 24, 32, 60, 100, 500, 2000, 5000, 10_000].map { at in
            Damage("index byte \(at)") { index, _ in index?[at] ^= 0x80 }
        } + [0, 31, 63].map { at in Damage("digest byte \(at)") { _, digest in digest?[at] ^= 1 } }

    static let damages: [Damage] =
        flips + [
            Damage("index empty") { index, _ in index = [] },
            Damage("index cut to its magic number") { index, _ in index = index.map { Array($0.prefix(4)) } },
            Damage("index cut to half") { index, _ in index = index.map { Array($0.prefix($0.count / 2)) } },
            Damage("index without its last byte") { index, _ in index?.removeLast() },
            Damage("index with one byte more") { index, _ in index?.append(0) },
            Damage("index without its first byte") { index, _ in index?.removeFirst() },
            Damage("index of zeros") { index, _ in
                index = index.map { [UInt8](repeating: 0, count: $0.count) }
            },
            Damage("index reversed") { index, _ in index?.reverse() },
            Damage("index missing") { index, _ in index = nil },
            Damage("digest missing") { _, digest in digest = nil },
            Damage("both missing") { index, digest in (index, digest) = (nil, nil) },
            Damage("digest empty") { _, digest in digest = [] },
            Damage("digest without its last digit") { _, digest in digest?.removeLast() },
            Damage("digest with a line end") { _, digest in digest?.append(0x0A) },
            Damage("digest in capitals") { _, digest in
                digest = digest.map { Array(String(decoding: $0, as: UTF8.self).uppercased().utf8) }
            },
            Damage("digest of something else") { _, digest in digest = Array(Digest.sha256([1]).utf8) },
            Damage("digest not UTF-8") { _, digest in digest = [UInt8](repeating: 0xFF, count: 64) },
            Damage("index and digest exchanged") { index, digest in swap(&index, &digest) },
            Damage("no index under a right digest") { index, digest in
                index = [1, 2, 3]
                digest = Array(Digest.sha256([1, 2, 3]).utf8)
            },
            Damage("nothing under a right digest") { index, digest in
                index = []
                digest = Array(Digest.sha256([] as [UInt8]).utf8)
            },
        ]

    static let table: VectorTable = {
        var random = SeededRandom(22)
        let values = (0..<40_000).map { _ in Float.random(in: -1...1, using: &random) }
        return VectorTable(Matrix(rows: 10_000, columns: 4, values: values), metric: .innerProduct)
    }()

    @Test func `there are thirty damages, each another`() {
        #expect(Set(Self.damages.map(\.title)).count == Self.damages.count && Self.damages.count >= 30)
    }

    @Test func `each damaged index is not believed, and the one made again is the one that was`() throws {
        let folder = try TemporaryFolder()
        try SmallBundle().write(to: folder)
        let bundle = try BundleFolder(path: folder.path)
        let warnings = Warnings()
        func index(builds: Bool) throws -> any VectorIndex {
            let logger = Logger(label: "tests") { _ in warnings }
            let store = IndexStore(
                bundle, try Configuration(arguments: ["--build-at-start-max", "0"]), mayBuild: builds, logger,
                ProgressLine { _ in })
            return try store.index("item.vector", Self.table, IndexStoreTests.configuration)
        }
        _ = try index(builds: true)
        let name = try #require(folder.names(in: ".index").first { $0.hasSuffix(".faiss") })
        let paths = (index: ".index/" + name, digest: ".index/" + name + ".sha256")
        let whole = (index: try folder.read(paths.index), digest: try folder.read(paths.digest))
        for damage in Self.damages {
            var damaged: (index: [UInt8]?, digest: [UInt8]?) = whole
            damage.apply(&damaged.index, &damaged.digest)
            for (path, bytes) in [(paths.index, damaged.index), (paths.digest, damaged.digest)] {
                try? folder.remove(path)
                if let bytes { try folder.write(path, bytes) }
            }
            warnings.clear()
            let error = #expect(throws: BundleError.self, "\(damage.title)") { try index(builds: false) }
            #expect(error?.description.contains("item.vector: expected an index made by") == true)
            let isThere = damaged.index != nil && damaged.digest?.count ?? 65 <= 64
            if isThere { #expect(!warnings.texts.isEmpty, "\(damage.title) is told") }
        }
        // One more time with leave to build: the same bytes, and believed.
        #expect(try index(builds: true).count == 10_000)
        #expect(try folder.read(paths.index) == whole.index && folder.read(paths.digest) == whole.digest)
        #expect(try index(builds: false).count == 10_000)
    }

    @Test func `an index that is made again takes the place of the damaged one, for a few kinds of damage`()
        throws
    {
        let folder = try TemporaryFolder()
        try SmallBundle().write(to: folder)
        let store = IndexStore(
            try BundleFolder(path: folder.path), try Configuration(), mayBuild: true,
            SmallBundle.silentLogger,
            ProgressLine { _ in })
        func make() throws {
            _ = try store.index("item.vector", Self.table, IndexStoreTests.configuration)
        }
        try make()
        let name = try #require(folder.names(in: ".index").first { $0.hasSuffix(".faiss") })
        let whole = try folder.read(".index/" + name)
        for damage in [Self.damages[2], Self.damages[15], Self.damages[19], Self.damages[36]] {
            var damaged: (index: [UInt8]?, digest: [UInt8]?) = (whole, Array(Digest.sha256(whole).utf8))
            damage.apply(&damaged.index, &damaged.digest)
            try folder.write(".index/" + name, damaged.index ?? [])
            try folder.write(".index/" + name + ".sha256", damaged.digest ?? [])
            try make()
            #expect(try folder.read(".index/" + name) == whole, "\(damage.title)")
        }
    }
}

/// Collects warnings; its copies share what they collect.
private struct Warnings: LogHandler {
    private final class Store: @unchecked Sendable {
        // @unchecked Sendable: used on one thread.
        var texts: [String] = []
    }
    private let store = Store()
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .warning

    var texts: [String] { store.texts }

    func clear() { store.texts = [] }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { store.texts.append("\(event.message)") }

    func log(
        level: Logger.Level, message: Logger.Message, metadata: Logger.Metadata?, source: String,
        file: String,
        function: String, line: UInt
    ) { store.texts.append("\(message)") }
}
