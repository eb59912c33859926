internal import ArgumentParser
internal import Artifacts
internal import Features
internal import Kernels
internal import Ranking
internal import RecCore
internal import Retrieval
internal import Threading

/// What the ranking stage of a bundle costs: encoding the candidates' features and running DCN-V2.
struct RankerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ranker",
        abstract: "Processor time and arithmetic rate of a bundle's ranker for one request.")

    @Option(help: "The bundle's folder.") var bundle: String
    @Option(help: "Candidates of a request.") var candidates = 500
    @Option(help: "Candidates that go through the layers together.") var blockRows = DCNV2Run.blockRowsDefault
    @Option(help: "Measurements; the least processor time is printed.") var rounds = 200

    func validate() throws {
        guard (1...Ranker.candidateMaximum).contains(candidates), blockRows > 0, rounds > 0 else {
            throw ValidationError("Every size must be at least 1.")
        }
    }

    func run() throws {
        let folder = try BundleFolder(path: bundle)
        let manifest = folder.manifest
        let model = try makeModel(folder)
        guard let network = model.network, let shape = manifest.ranker else {
            throw ValidationError("The bundle has no ranker.")
        }
        let ranker = Ranker(model, capacity: candidates, blockRows: blockRows)
        let items = manifest.items.count
        let history = (0..<32).map { HistoryEvent(row: $0 * 104_729 % items, action: 0, time: nil) }
        ranker.begin(Query(userRow: 0, history: history, now: 0))
        ranker.prefill()
        // Other candidates every time, so that their features come from memory as in a daemon.
        let time = try leastTime(rounds) {
            try ranker.rank()
        } preparing: { round in
            let first = round * candidates
            try ranker.take(
                (first..<first + candidates).map {
                    Candidate(row: $0 * 7919 % items, sources: .tower, retrievalScore: Float($0 % 97))
                })
            ranker.scoreSequence()
        }
        let width = network.encoder.width
        print("# \(width) inputs, \(shape.crossLayers) cross layers, deep \(shape.deep), \(items) items")
        let rate = (Double(candidates * work(shape, width: width)) / time * 10).rounded() / 10
        print("rank \(candidates): \(Int(time)) ns, \(rate) GFLOP/s")
    }

    /// Floating-point operations of the layers' products for one candidate.
    private func work(_ shape: RankerConfiguration, width: Int) -> Int {
        let inner = shape.crossRank > 0 ? 2 * shape.crossRank : width
        var sum = shape.crossLayers * inner * width
        var input = width
        for output in shape.deep {
            sum += input * output
            input = output
        }
        return 2 * (sum + input * shape.tasks.count)
    }

    private func makeModel(_ folder: BundleFolder) throws -> RankingModel {
        let manifest = folder.manifest
        let tables = SharedTables(folder.tensors)
        struct Attributes: ItemAttributes {
            let catalog: ItemCatalog
            func value(row: Int, attribute: Int) -> FeatureValue? {
                catalog.attribute(row, catalog.attributes[attribute].name)
            }
        }
        return try RankingModel(
            manifest, tensors: folder.tensors, tables: tables,
            schema: FeatureSchema(manifest, tables: tables),
            attributes: Attributes(catalog: ItemCatalog(manifest.items, tensors: folder.tensors)))
    }
}
