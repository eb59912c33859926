import Artifacts
import Kernels
import Ranking
import Retrieval

/// How much of the exact answer a bundle's FAISS index finds, with items as queries.
struct IndexRecall {
    /// Least recall@k that passes.
    static let minimum = 0.95
    /// Items that are queries.
    static let queryMaximum = 1000

    let name: String
    let k: Int
    let queries: Int
    let recall: Double
    var isEnough: Bool { recall >= Self.minimum }

    /// Measures every FAISS index of a snapshot; catalogues that serve exactly get theirs made for the
    /// measurement.
    static func measure(_ snapshot: Snapshot, progress: ProgressLine) throws -> [IndexRecall] {
        let retrieval = snapshot.manifest.retrieval
        guard retrieval.index.kind == .ivfpq else { return [] }
        var recalls = [
            try measure(
                "item.vector", snapshot.retrieval.items, snapshot.retrieval.table, retrieval, retrieval.index,
                progress)
        ]
        if let index = snapshot.retrieval.sequence, let model = snapshot.ranking.sequence,
            let head = model.configuration.dot
        {
            recalls.append(
                try measure(
                    "sequence.item_embedding.weight", index,
                    RetrievalModel.sequenceTable(model.items, head: head),
                    retrieval,
                    RetrievalModel.adapted(retrieval.index, dimension: model.dimension),
                    progress))
        }
        let table = snapshot.retrieval.similarTable
        if table.vectors !== snapshot.retrieval.table.vectors {
            recalls.append(
                try measure(
                    "item.similar", snapshot.retrieval.similarIndex, table, retrieval,
                    RetrievalModel.adapted(retrieval.index, dimension: table.dimension), progress))
        }
        return recalls
    }

    /// Measures one index over `table`, with up to 1,000 of its rows as queries.
    static func measure(
        _ name: String, _ served: any VectorIndex, _ table: VectorTable, _ retrieval: RetrievalConfiguration,
        _ configuration: IndexConfiguration, _ progress: ProgressLine
    ) throws -> IndexRecall {
        let index: any VectorIndex =
            served is FlatIndex
            ? try RerankedIndex(shortlist: try FaissIndex(table, configuration: configuration), table: table)
            : served
        let k = min(100, table.count)
        let count = min(queryMaximum, table.count)
        // Every (items/count)-th item: deterministic and spread over the catalogue.
        let sample = Matrix(rows: count, columns: table.dimension) { span in
            for query in 0..<count {
                let row = query * table.count / count
                for (column, value) in table.vectors.copyRow(row).enumerated() {
                    span[query * table.dimension + column] = value
                }
            }
        }
        progress.show("measuring recall of \(name)", 0, 1)
        let recall = try measureRecall(
            index: index, exact: FlatIndex(table), queries: sample.view, k: k,
            settings: SearchSettings(
                probes: retrieval.index.probes, shortlistFactor: retrieval.shortlistFactor))
        progress.show("measuring recall of \(name)", 1, 1)
        return IndexRecall(name: name, k: k, queries: count, recall: recall)
    }
}
