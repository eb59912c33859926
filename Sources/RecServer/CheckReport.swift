import Artifacts
import Kernels
import Retrieval

/// What `recserver check` found.
struct CheckReport {
    let snapshot: Snapshot
    let goldens: GoldenReport
    let recall: [IndexRecall]

    /// Whether every golden stage is within tolerance and every index finds what it should.
    var isGood: Bool { goldens.isWithin && recall.allSatisfy(\.isEnough) }

    /// A table for people.
    var text: String {
        let manifest = snapshot.manifest
        var lines = [
            "bundle \(manifest.modelVersion), space \(manifest.spaceVersion), sha256 \(snapshot.digest)",
            "items \(manifest.items.count), users \(manifest.users?.count ?? 0), index \(snapshot.indexName)",
            "",
            "\(goldens.goldens) goldens, tolerance \(goldens.tolerance)",
            Self.row("stage", "requests", "values", "worst error / allowed", ""),
        ]
        for stage in goldens.stages where stage.requests > 0 {
            lines.append(
                Self.row(
                    stage.name, "\(stage.requests)", "\(stage.values)", Self.rounded(stage.worst),
                    stage.isWithin ? "ok" : "FAILED at line \(stage.worstLine)"))
        }
        lines.append("")
        for recall in recall {
            let verdict = recall.isEnough ? "ok" : "below \(IndexRecall.minimum)"
            lines.append(
                "\(recall.name): recall@\(recall.k) of ivfpq + re-rank \(Self.rounded(recall.recall)) "
                    + "over \(recall.queries) queries, \(verdict)"
            )
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func row(_ columns: String...) -> String {
        let widths = [22, 9, 9, 22, 0]
        return zip(columns, widths).map { text, width in
            text + String(repeating: " ", count: max(1, width - text.count))
        }.joined()
    }

    private static func rounded(_ value: Double) -> String {
        guard value.isFinite else { return "infinite" }
        return String((value * 1e4).rounded() / 1e4)
    }
}

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

    /// Measures the item index; catalogues that serve exactly get their FAISS index made for the measurement.
    static func measure(_ snapshot: Snapshot, progress: ProgressLine) throws -> [IndexRecall] {
        let configuration = snapshot.manifest.retrieval
        let table = snapshot.retrieval.table
        guard configuration.index.kind == .ivfpq else { return [] }
        let index: any VectorIndex =
            snapshot.retrieval.items is FlatIndex
            ? try RerankedIndex(
                shortlist: try FaissIndex(table, configuration: configuration.index), table: table)
            : snapshot.retrieval.items
        let k = min(100, table.count)
        let count = min(queryMaximum, table.count)
        // Every (count/n)-th item: deterministic and spread over the catalogue.
        let sample = Matrix(rows: count, columns: table.dimension) { span in
            for query in 0..<count {
                let row = query * table.count / count
                for (column, value) in table.vectors.copyRow(row).enumerated() {
                    span[query * table.dimension + column] = value
                }
            }
        }
        progress.show("measuring recall", 0, 1)
        let recall = try measureRecall(
            index: index, exact: FlatIndex(table), queries: sample.view, k: k,
            settings: SearchSettings(
                probes: configuration.index.probes, shortlistFactor: configuration.shortlistFactor))
        progress.show("measuring recall", 1, 1)
        return [IndexRecall(name: "item.vector", k: k, queries: count, recall: recall)]
    }
}
