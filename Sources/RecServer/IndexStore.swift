import Artifacts
import Logging
import Retrieval
import Threading

/// Makes a bundle's FAISS indexes, or takes them from the folder where they were kept.
///
/// A kept index is named by a digest of the vectors and parameters it is made of, so that bundles with the
/// same vectors share it. It is believed only under the digest beside it: FAISS itself checks nothing.
struct IndexStore {
    let folder: BundleFolder
    let cache: String
    /// Where else a kept index may be: beside the bundles a delta stands on.
    let others: [String]
    let buildMaximum: Int
    let logger: Logger
    let progress: ProgressLine
    /// Threads that large catalogues are indexed with.
    var threads = NamedThread.processorCount

    /// Largest index file, 64 GiB.
    private static let byteMaximum = 1 << 36
    /// Indexes kept in a folder, the newest: four bundles' three.
    static let keptMaximum = 12
    /// Catalogues from this size on are indexed with all processors.
    private static let parallelMinimum = 200_000

    /// - Parameter mayBuild: whether catalogues of any size may be indexed now.
    init(
        _ folder: BundleFolder, _ configuration: Configuration, mayBuild: Bool, _ logger: Logger,
        _ progress: ProgressLine
    ) {
        self.folder = folder
        let named = configuration.text("index_cache")
        cache = named.isEmpty ? folder.path + "/.index" : named
        others = named.isEmpty ? folder.bases.map { $0 + "/.index" } : []
        buildMaximum = mayBuild ? .max : configuration.integer("build_at_start_max")
        self.logger = logger
        self.progress = progress
    }

    /// The index over `table`: exact for small catalogues, else codes with exact re-ranking.
    /// - Parameter name: the tensor's name, part of the key under which the index is kept.
    func index(
        _ name: String, _ table: VectorTable, _ configuration: IndexConfiguration, shipped: FileBytes? = nil
    ) throws -> any VectorIndex {
        guard IndexBuilder.needsCodes(rows: table.count, configuration: configuration) else {
            return FlatIndex(table)
        }
        if let shipped {
            do throws(RetrievalError) { return try reranked(verified: shipped.copy(), table) } catch {
                throw BundleError(
                    file: "retrieval.faiss", tensor: name, expected: "a FAISS index of its vectors",
                    found: error.description)
            }
        }
        let file = Self.key(name, table, configuration) + ".faiss"
        if let kept = keptIndex(file, name, table) { return kept }
        guard table.count <= buildMaximum else {
            throw BundleError(
                file: folder.path, tensor: name, expected: "an index made by `recserver build`",
                found: "none, and \(table.count) items are too many to index at start")
        }
        // OpenMP's threads cost more than they bring on a small catalogue: 12,000 items take 1.7 s of CPU
        // with one, 14 with two.
        FaissIndex.setThreads(table.count < Self.parallelMinimum ? 1 : threads)
        do {
            let codes = try FaissIndex(table, configuration: configuration) { step in
                switch step {
                case .training: progress.show("training \(name)", 0, 1)
                case .adding(let done, let total): progress.show("indexing \(name)", done, total)
                }
            }
            keep(try codes.bytes(), file)
            return try RerankedIndex(shortlist: codes, table: table)
        } catch {
            throw BundleError(
                file: "manifest.json", tensor: "/retrieval/index", expected: "parameters that fit \(name)",
                found: error.description)
        }
    }

    private func reranked(verified bytes: [UInt8], _ table: VectorTable) throws(RetrievalError)
        -> any VectorIndex
    {
        let codes = try FaissIndex(
            verified: bytes, metric: table.metric, dimension: table.dimension, count: table.count)
        return try RerankedIndex(shortlist: codes, table: table)
    }

    /// The name of an index made of these vectors with these parameters.
    static func key(_ name: String, _ table: VectorTable, _ configuration: IndexConfiguration) -> String {
        let parts = [
            "2", name, "\(table.metric)", "\(table.count)", "\(table.dimension)", "\(configuration.lists)",
            "\(configuration.subquantizers)", "\(configuration.bits)", Digest.sha256(table.vectors),
        ]
        return Digest.sha256(Array(parts.joined(separator: " ").utf8))
    }

    private func keptIndex(_ file: String, _ name: String, _ table: VectorTable) -> (any VectorIndex)? {
        for folder in [cache] + others {
            guard let kept = kept(folder + "/" + file) else { continue }
            do { return try reranked(verified: kept, table) } catch {
                logger.warning(
                    "a kept index does not fit and is made again",
                    metadata: ["index": "\(name)", "reason": "\(error)"])
            }
        }
        return nil
    }

    /// The bytes of a kept index whose digest holds.
    private func kept(_ path: String) -> [UInt8]? {
        guard let digest = try? FileBytes(path: path + ".sha256", name: "index digest", maximum: 64),
            let bytes = try? FileBytes(path: path, name: "index", maximum: Self.byteMaximum)
        else { return nil }
        guard Digest.sha256(bytes) == String(decoding: digest.copy(), as: UTF8.self) else {
            logger.warning("a kept index is damaged and is made again", metadata: ["path": "\(path)"])
            return nil
        }
        KeptFiles.touch(path)
        return bytes.copy()
    }

    private func keep(_ bytes: [UInt8], _ file: String) {
        do {
            let path = cache + "/" + file
            try AtomicFile.write(bytes, to: path)
            try AtomicFile.write(Array(Digest.sha256(bytes).utf8), to: path + ".sha256")
            for old in KeptFiles.prune(
                cache, suffix: ".faiss", companion: ".sha256", keeping: Self.keptMaximum)
            {
                logger.info("an index that was not used lately is removed", metadata: ["index": "\(old)"])
            }
        } catch {
            logger.warning("the index could not be kept", metadata: ["reason": "\(error)"])
        }
    }
}
