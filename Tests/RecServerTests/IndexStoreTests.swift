import Artifacts
import Kernels
import RecCore
import Retrieval
import TestSupport
import Testing

@testable import RecServer

@Suite struct IndexStoreTests {
    static let count = 10_000
    static let configuration = IndexConfiguration(
        kind: .ivfpq, lists: 8, subquantizers: 2, bits: 4, probes: 2)

    static let table: VectorTable = {
        var random = SeededRandom(21)
        let values = (0..<count * 4).map { _ in Float.random(in: -1...1, using: &random) }
        return VectorTable(Matrix(rows: count, columns: 4, values: values), metric: .innerProduct)
    }()

    /// A store over `folder`; one that may not build answers only from what was kept.
    func store(_ folder: TemporaryFolder, builds: Bool = true, cache: String? = nil) throws -> IndexStore {
        let arguments = ["--build-at-start-max", "0"] + (cache.map { ["--index-cache", $0] } ?? [])
        return IndexStore(
            try BundleFolder(path: folder.path), try Configuration(arguments: arguments), mayBuild: builds,
            SmallBundle.silentLogger, ProgressLine { _ in })
    }

    func index(_ store: IndexStore, shipped: [UInt8]? = nil) throws -> any VectorIndex {
        try store.index("item.vector", Self.table, Self.configuration, shipped: shipped.map(FileBytes.init))
    }

    func isKept(_ folder: TemporaryFolder) throws -> Bool {
        do {
            _ = try index(store(folder, builds: false))
            return true
        } catch let error as BundleError {
            #expect(error.tensor == "item.vector" && error.expected.contains("build"))
            return false
        }
    }

    @Test func `a kept index is used, a damaged one is made again`() throws {
        let folder = try TemporaryFolder(), cacheName = ".index"
        try SmallBundle().write(to: folder)
        #expect(try !isKept(folder))
        #expect(try index(store(folder)) is RerankedIndex)
        #expect(try isKept(folder))
        let names = try folder.names(in: cacheName)
        #expect(names.count == 2 && names[1] == names[0] + ".sha256")
        let path = cacheName + "/" + names[0], digestPath = path + ".sha256"
        let (whole, digest) = (try folder.read(path), try folder.read(digestPath))

        func damage(_ name: String, _ bytes: [UInt8]) throws {
            try folder.write(name, bytes)
            #expect(try !isKept(folder), "\(bytes.count) bytes of \(name)")
        }
        for at in [0, whole.count / 2, whole.count - 1] {
            var flipped = whole
            flipped[at] ^= 1
            try damage(path, flipped)
        }
        try damage(path, Array(whole.dropLast()))
        try damage(path, [])
        try folder.write(path, whole)
        for bytes in [[], Array(digest.dropLast()), digest + [0x0A], Array(Digest.sha256([1]).utf8)] {
            try damage(digestPath, bytes)
        }
        // Made again, the same as before.
        _ = try index(store(folder))
        #expect(try folder.read(path) == whole && folder.read(digestPath) == digest)
        #expect(try isKept(folder))
        // Bytes that are no index are not believed for having their digest beside them.
        try folder.write(path, [1, 2, 3])
        try folder.write(digestPath, Array(Digest.sha256([1, 2, 3]).utf8))
        #expect(try !isKept(folder))
        _ = try index(store(folder))
        #expect(try folder.read(path) == whole)
    }

    @Test
    func `a kept index is any bundle's with the same vectors, metric and parameters, and nobody else's`()
        throws
    {
        let (first, second, cache) = (try TemporaryFolder(), try TemporaryFolder(), try TemporaryFolder())
        try SmallBundle(seed: 1).write(to: first)
        try SmallBundle(seed: 2).write(to: second)
        let kept = try index(store(first, cache: cache.path))
        let other = try store(second, builds: false, cache: cache.path)
        #expect(try index(other).count == kept.count)
        #expect(try cache.names().count == 2)
        var values = Self.table.vectors.view.copy()
        values[values.count - 1] += 0.001
        let moved = Matrix(rows: Self.count, columns: 4, values: values)
        let finer = IndexConfiguration(kind: .ivfpq, lists: 9, subquantizers: 2, bits: 4, probes: 2)
        for (name, table, configuration) in [
            ("item.vector", VectorTable(moved, metric: .innerProduct), Self.configuration),
            ("item.vector", VectorTable(Self.table.vectors, metric: .cosine), Self.configuration),
            ("item.similar", Self.table, Self.configuration), ("item.vector", Self.table, finer),
        ] {
            #expect(throws: BundleError.self) { try other.index(name, table, configuration) }
        }
    }

    @Test func `a kept index is also taken from beside a delta's base`() throws {
        let (base, delta) = (try TemporaryFolder(), try TemporaryFolder())
        try SmallBundle().write(to: base)
        _ = try index(store(base))
        try SmallDelta(of: SmallBundle()).write(to: delta)
        let store = IndexStore(
            try BundleFolder(path: delta.path, bases: [base.path]),
            try Configuration(arguments: ["--build-at-start-max", "0"]), mayBuild: false,
            SmallBundle.silentLogger, ProgressLine { _ in })
        #expect(try index(store).count == Self.count)
    }

    @Test func `an index that cannot be kept is served all the same`() throws {
        let folder = try TemporaryFolder()
        try SmallBundle().write(to: folder)
        #expect(try index(store(folder, cache: "/proc/none/there")).count == Self.count)
    }

    @Test func `a shipped index is read, and refused by name when it does not fit`() throws {
        let folder = try TemporaryFolder()
        try SmallBundle().write(to: folder)
        let bytes = try FaissIndex(Self.table, configuration: Self.configuration).bytes()
        #expect(try index(store(folder, builds: false), shipped: bytes).count == Self.count)
        // Not one that is cut short: FAISS 1.7.3 itself drops what it has read of it, which the leak checker reports.
        for wrong in [[], [1, 2, 3]] as [[UInt8]] {
            let error = #expect(throws: BundleError.self) {
                try index(store(folder, builds: false), shipped: wrong)
            }
            #expect(error?.file == "retrieval.faiss")
        }
    }

    @Test func `a small catalogue is scanned whatever its manifest asks for`() throws {
        let folder = try TemporaryFolder()
        try SmallBundle().write(to: folder)
        let table = VectorTable(Matrix(rows: 2, columns: 2, values: [1, 2, 3, 4]), metric: .l2)
        let index = try store(folder, builds: false).index("item.vector", table, Self.configuration)
        #expect(index is FlatIndex)
    }
}

@Suite struct UserDirectoryTests {
    func directory(_ configuration: UsersConfiguration, _ tensors: [String: SmallTensor]) throws(BundleError)
        -> UserDirectory
    {
        var writer = SafeTensorsWriter()
        for (name, tensor) in tensors { tensor.add(to: &writer, name) }
        return try UserDirectory(
            configuration, itemCount: 5, actionCount: 2,
            tensors: BundleTensors(files: [("t.safetensors", FileBytes(writer.file()))]))
    }

    static let tensors: [String: SmallTensor] = [
        "user_ids.bytes": .bytes(Array("abc".utf8)), "user_ids.offsets": .unsigned64([0, 1, 3]),
        "history.offsets": .unsigned64([0, 0, 3]), "history.items": .unsigned32([4, 0, 2]),
    ]
    static let configuration = UsersConfiguration(count: 2, hasHistories: true)

    @Test func `users are found by id, with the last events of their histories`() throws {
        let users = try directory(Self.configuration, Self.tensors)
        #expect(users.row(of: "a") == 0 && users.row(of: "bc") == 1 && users.row(of: "b") == nil)
        #expect(users.history(0, limit: 9).events.isEmpty)
        let (events, offset) = users.history(1, limit: 2)
        #expect(events.map(\.row) == [0, 2] && offset == 1)
        #expect(events.allSatisfy { $0.action == 0 && $0.time == nil })
        #expect(users.history(1, limit: 3).offset == 0)
        #expect(users.features(1).isEmpty)
    }

    @Test func `no users are a directory too`() throws {
        let users = try directory(
            UsersConfiguration(count: 0),
            ["user_ids.bytes": .bytes([]), "user_ids.offsets": .unsigned64([0])])
        #expect(users.count == 0 && users.row(of: "") == nil)
    }

    @Test(
        arguments: [
            ("user_ids.offsets", .unsigned64([0, 1, 2])), ("user_ids.offsets", .unsigned64([0, 3])),
            ("user_ids.bytes", .bytes([0x61, 0xC3, 0x28])), ("history.items", .unsigned32([4, 5, 2])),
            ("history.items", .unsigned32([4, 0])), ("history.offsets", .unsigned64([0, 3, 3, 3])),
            ("history.actions", .bytes([0, 1, 2])), ("history.actions", .bytes([0, 1])),
            ("history.timestamps", .doubles([1, 2])), ("history.timestamps", .doubles([1, 2, .nan])),
            ("user_ids.bytes", .bytes(Array("aa".utf8))),
        ] as [(String, SmallTensor)])
    func `a tensor that does not fit is refused`(name: String, tensor: SmallTensor) {
        var tensors = Self.tensors
        tensors[name] = tensor
        #expect(throws: BundleError.self) { try directory(Self.configuration, tensors) }
    }
}
