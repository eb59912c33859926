import Artifacts
import Kernels
import Retrieval

/// What `recserver check` found.
struct CheckReport {
    let snapshot: Snapshot
    let goldens: GoldenReport
    let recall: [IndexRecall]
    /// How near another bundle's vectors are, where one was named; `.some(nil)` when its space is another.
    var space: SpaceCheck??

    /// Whether every golden stage is within tolerance and every index finds what it should.
    var isGood: Bool { goldens.isWithin && recall.allSatisfy(\.isEnough) }

    /// A table for people.
    var text: String {
        let manifest = snapshot.manifest
        var lines = [
            "bundle \(manifest.modelVersion), space \(manifest.spaceVersion), sha256 \(snapshot.digest)",
            "items \(manifest.items.count), users \(manifest.users?.count ?? 0), index \(snapshot.indexName)",
            "",
            goldens.goldens == 0
                ? "no goldens: nothing was compared"
                : "\(goldens.goldens) goldens, tolerance \(goldens.tolerance)",
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
        if let space {
            lines.append(
                space.map { "the space is shared: mean cosine \($0)" } ?? "the spaces have other names")
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
