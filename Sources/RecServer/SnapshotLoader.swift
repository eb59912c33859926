import Artifacts
import Features
import JSON
import Kernels
import Logging
import Ranking
import RecCore
import Retrieval
import Threading

/// Makes a snapshot from a bundle's folder: all of it, or an error that names what is wrong.
struct SnapshotLoader {
    let configuration: Configuration
    let logger: Logger
    /// Folders where a delta's base may be, besides those of the setting `base_bundles`.
    var bases: [String] = []
    /// May refuse a bundle by its manifest and the bytes of its files, before they are read.
    var admit: (Manifest, Int) throws(BundleError) -> Void = { _, _ throws(BundleError) in }
    /// Whether others serve meanwhile: then one thread at a time is used.
    var isBesideServing = false
    /// Most bytes read a second, 0 for no limit.
    var bytesPerSecond = 0

    /// Loads and verifies a bundle.
    /// - Parameter mayBuild: whether to index catalogues of any size, as `recserver build` does.
    func load(_ path: String, mayBuild: Bool = false) throws -> Snapshot {
        let loaded = try verified(path, mayBuild: mayBuild)
        try warmUp(loaded)
        return loaded.snapshot
    }

    /// Loads and verifies a bundle to answer requests from it, with its pipelines made and warm.
    func loadBundle(
        _ path: String, threads: Int, metrics: Metrics, historyBudget: HistoryBudget
    ) throws -> LoadedBundle {
        let loaded = try verified(path, mayBuild: false)
        let bundle = LoadedBundle(
            loaded.snapshot, path: path, threads: threads, settings: PipelineSettings(configuration),
            metrics: metrics, histories: historyBudget.cache(for: loaded.snapshot))
        let lines = warmUpLines(loaded.folder)
        var count = lines.count
        try bundle.pipelines.fill { pipeline in
            try pipeline.rehearse { try warmUp(lines.prefix(count), pipeline) }
            // The first one has brought the tables into memory; the others warm only their scratch.
            count = Self.scratchWarmUpMaximum
        }
        return bundle
    }

    private func verified(_ path: String, mayBuild: Bool) throws -> (folder: BundleFolder, snapshot: Snapshot)
    {
        let loaded = try open(path, mayBuild: mayBuild)
        if configuration.text("verify_goldens") == "on", let bytes = loaded.folder.optionalFile(Golden.file) {
            let report = try replay(try Golden.read(bytes.copy()), on: loaded.snapshot)
            if let failure = report.firstFailure {
                throw BundleError(
                    file: Golden.file, tensor: "line \(failure.worstLine)",
                    expected: "\(failure.name) within \(report.tolerance)",
                    found: "\(failure.worst) times that")
            }
        }
        return loaded
    }

    private static let similarTensor = "item.similar"
    static let warmUpFile = "warmup.jsonl"
    private static let warmUpMaximum = 1000
    private static let scratchWarmUpMaximum = 20

    private func warmUpLines(_ folder: BundleFolder) -> [[UInt8]] {
        let bytes = folder.optionalFile(Self.warmUpFile)?.copy() ?? []
        return bytes.split(separator: 0x0A).prefix(Self.warmUpMaximum).map(Array.init)
    }

    private func warmUp(_ loaded: (folder: BundleFolder, snapshot: Snapshot)) throws {
        let pipeline = RecommendPipeline(loaded.snapshot, PipelineSettings(configuration), Metrics())
        try warmUp(warmUpLines(loaded.folder)[...], pipeline)
    }

    /// Answers the bundle's warm-up requests, so that tables are in memory before the first caller waits for
    /// them.
    private func warmUp(_ lines: ArraySlice<[UInt8]>, _ pipeline: RecommendPipeline) throws {
        let progress = ProgressLine { logger.info("\($0)") }
        for (index, line) in lines.enumerated() {
            do throws(Problem) {
                var clock = StageClock(start: MonotonicClock.nanoseconds)
                _ = try pipeline.recommend(
                    try RecommendRequest(body: line), receivedAt: MonotonicClock.nanoseconds,
                    clock: &clock)
            } catch  where error.kind == .deadline {
                // A cold machine may be slow; that is what the replay is for.
            } catch {
                throw BundleError(
                    file: Self.warmUpFile, tensor: "line \(index + 1)",
                    expected: "a /recommend body this bundle can answer",
                    found: error.detail ?? error.errors.first.map { "\($0.pointer): \($0.detail)" }
                        ?? error.kind.rawValue)
            }
            progress.show("warming up", index + 1, lines.count)
        }
    }

    /// Verifies a bundle and reports on it; throws only for what makes a report impossible.
    /// - Parameter other: a bundle that is to share its space.
    func check(_ path: String, against other: String? = nil) throws -> CheckReport {
        let loaded = try open(path, mayBuild: true)
        let space = try other.map {
            try SpaceCheck.verify(
                new: loaded.snapshot, against: open($0, mayBuild: true, exact: true).snapshot)
        }
        let goldens = try loaded.folder.optionalFile(Golden.file).map { try Golden.read($0.copy()) } ?? []
        try warmUp(loaded)
        let recall = try IndexRecall.measure(loaded.snapshot, progress: ProgressLine { logger.info("\($0)") })
        return CheckReport(
            snapshot: loaded.snapshot, goldens: try replay(goldens, on: loaded.snapshot), recall: recall,
            space: space)
    }

    /// A verified bundle with its folder, before goldens and warm-up.
    /// - Parameter exact: whether to scan all vectors, whatever index the manifest asks for.
    func open(_ path: String, mayBuild: Bool, exact: Bool = false) throws -> (
        folder: BundleFolder, snapshot: Snapshot
    ) {
        let progress = ProgressLine { logger.info("\($0)") }
        let named = configuration.text("base_bundles").split(separator: ":").map(String.init)
        let pace = ReadingPace(bytesPerSecond: bytesPerSecond)
        let folder = try BundleFolder(path: path, bases: bases + named, admit: admit) { done, total in
            progress.show("reading the bundle", done, total)
            pace.wait(after: done)
        }
        var manifest = folder.manifest
        if exact { manifest.retrieval.index.kind = .flat }
        let tensors = folder.tensors
        let tables = SharedTables(tensors)
        let items = manifest.items.count
        let catalog = try ItemCatalog(manifest.items, tensors: tensors)
        let vectors = try tables.matrix("item.vector", rows: items, columns: manifest.retrieval.dimension)
        let similar = try tensors.shape(Self.similarTensor).map { shape throws(BundleError) in
            try tensors.matrix(Self.similarTensor, rows: items, columns: shape.last ?? 0)
        }
        let users = try manifest.users.map { users throws(BundleError) in
            try UserDirectory(
                users, itemCount: items, actionCount: manifest.sequence?.actions.count ?? 256,
                tensors: tensors)
        }
        let schema = try FeatureSchema(manifest, tables: tables)
        let tower = try manifest.tower.map { tower throws(BundleError) in
            let encoder = try schema.encoder(inputs: tower.inputs, for: .tower)
            return Snapshot.Tower(
                encoder: encoder,
                network: try UserTower(
                    configuration: tower, inputWidth: encoder.width, dimension: manifest.retrieval.dimension,
                    tensors: tensors))
        }
        let ranking = try RankingModel(
            manifest, tensors: tensors, tables: tables, schema: schema,
            attributes: CatalogAttributes(catalog: catalog))
        try tensors.refuseUnread()
        var store = IndexStore(folder, configuration, mayBuild: mayBuild, logger, progress)
        if isBesideServing { store.threads = 1 }
        let retrieval = try retrievalModel(
            manifest, catalog, vectors, similar, ranking, store,
            shipped: folder.optionalFile("retrieval.faiss"))
        let snapshot = try Snapshot(
            manifest: manifest, digest: folder.digest, retrieval: retrieval, users: users, tower: tower,
            ranking: ranking, schema: schema)
        return (folder, snapshot)
    }

    private func retrievalModel(
        _ manifest: Manifest, _ catalog: ItemCatalog, _ vectors: Matrix, _ similar: Matrix?,
        _ ranking: RankingModel, _ store: IndexStore, shipped: FileBytes?
    ) throws -> RetrievalModel {
        let table = VectorTable(vectors, metric: manifest.retrieval.metric)
        let items = try store.index("item.vector", table, manifest.retrieval.index, shipped: shipped)
        if shipped != nil, !(items is FlatIndex) {
            // The digest says that the file is what the trainer wrote, not that it was made from these
            // vectors.
            let recall = try IndexRecall.measure(
                "retrieval.faiss", items, table, manifest.retrieval, manifest.retrieval.index, store.progress)
            guard recall.isEnough else {
                throw BundleError(
                    file: "retrieval.faiss", tensor: "item.vector",
                    expected: "recall@\(recall.k) of \(IndexRecall.minimum)",
                    found: "\(recall.recall)")
            }
        }
        var sequence: (any VectorIndex)?
        if manifest.usesSequenceSource, let model = ranking.sequence,
            let head = model.configuration.dot
        {
            let configuration = RetrievalModel.adapted(
                manifest.retrieval.index, dimension: model.dimension)
            sequence = try store.index(
                "sequence.item_embedding.weight", RetrievalModel.sequenceTable(model.items, head: head),
                configuration)
        }
        let neighbors = try similar.map { vectors in
            let table = VectorTable(vectors, metric: .cosine)
            let configuration = RetrievalModel.adapted(manifest.retrieval.index, dimension: vectors.columns)
            return (index: try store.index(Self.similarTensor, table, configuration), table: table)
        }
        return RetrievalModel(
            configuration: manifest.retrieval, catalog: catalog, table: table, items: items,
            sequence: sequence, similar: neighbors)
    }

    func replay(_ goldens: [Golden], on snapshot: Snapshot) throws -> GoldenReport {
        var report = GoldenReport(tolerance: snapshot.manifest.tolerance)
        let progress = ProgressLine { logger.info("\($0)") }
        let pipeline = RecommendPipeline(snapshot, PipelineSettings(configuration), Metrics())
        for (index, golden) in goldens.enumerated() {
            do {
                report.add(golden, ours: try pipeline.stages(of: golden.request))
            } catch let problem {
                throw BundleError(
                    file: Golden.file, tensor: "line \(golden.line)",
                    expected: "a request this bundle can answer",
                    found: problem.detail ?? problem.errors.first.map { "\($0.pointer): \($0.detail)" }
                        ?? problem.kind.rawValue)
            }
            progress.show("replaying goldens", index + 1, goldens.count)
        }
        return report
    }
}

/// The catalogue's attributes as the ranker's encoders read them.
private struct CatalogAttributes: ItemAttributes {
    let catalog: ItemCatalog

    func value(row: Int, attribute: Int) -> FeatureValue? {
        catalog.attribute(row, catalog.attributes[attribute].name)
    }
}
