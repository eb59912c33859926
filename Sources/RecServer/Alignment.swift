import Artifacts
import JSON
import Kernels
import Logging
import RecCore
import Retrieval

/// Brings a bundle's two-tower space onto a reference bundle's, so that vectors of both can be compared, and
/// measures that its answers stay.
struct Alignment {
    let loader: SnapshotLoader

    /// Users whose vectors are taken: enough to span a space of the widest towers, and quickly computed.
    static let usersMaximum = 4000

    /// What `recserver align` reports.
    struct Report {
        let items: Int
        let before: SpaceCheck
        let after: SpaceCheck
        /// Largest difference of a user's score of an item, and the root mean square of the scores.
        let scoreDifference: Double
        let scoreSize: Double
        /// Whether the canonical form came before the rotation.
        let isCanonical: Bool
    }

    /// Writes `path`'s bundle in the space of `reference`'s to the folder `out`.
    func run(reference: String, bundle path: String, out: String) throws -> Report {
        let progress = ProgressLine { [logger = loader.logger] in logger.info("\($0)") }
        let other = try loader.open(reference, mayBuild: true, exact: true).snapshot
        let (folder, snapshot) = try loader.open(path, mayBuild: true, exact: true)
        let (table, theirs) = (snapshot.retrieval.table, other.retrieval.table)
        guard table.dimension == theirs.dimension, table.metric == theirs.metric else {
            throw BundleError(
                file: "manifest.json", tensor: "/retrieval",
                expected: "dimension \(theirs.dimension) and metric \(theirs.metric) as the reference has",
                found: "\(table.dimension) and \(table.metric)")
        }
        let shared = SpaceAlignment.shared(snapshot.catalog, other.catalog)
        guard shared.count >= table.dimension else {
            throw BundleError(
                file: "bundle", tensor: "item_ids",
                expected: "\(table.dimension) items of the reference or more", found: "\(shared.count)")
        }
        let isCanonical =
            table.metric == .innerProduct && folder.manifest.tower.map { $0.normalize == .none } ?? false
        let requests = try self.requests(folder)
        let users = try userVectors(requests, snapshot, progress)
        progress.show("aligning", 0, 1)
        let alignment =
            isCanonical
            ? try SpaceAlignment(
                canonising: table.vectors,
                users: users ?? Matrix(rows: 0, columns: table.dimension, values: []),
                onto: theirs.vectors, shared: shared)
            : try SpaceAlignment(rotating: table.vectors, onto: theirs.vectors, shared: shared)
        progress.show("aligning", 1, 1)
        let aligned = AlignedBundle(
            folder: folder, snapshot: snapshot, alignment: alignment, changesItemProducts: isCanonical,
            spaceVersion: other.manifest.spaceVersion)
        try aligned.refuseFeatures()
        let after = try SpaceCheck(table.vectors.mapped(by: alignment.items), theirs.vectors, shared: shared)
        guard after.isGood else {
            throw BundleError(
                file: "bundle", tensor: "item.vector",
                expected:
                    "a mean cosine of at least \(SpaceCheck.cosineMinimum) to the reference once aligned",
                found: after.description)
        }
        try aligned.write(to: out, progress: progress)
        let written = try loader.open(out, mayBuild: true, exact: true).snapshot
        let (difference, size) = try scores(
            users, try userVectors(requests, written, progress), snapshot, written)
        return Report(
            items: shared.count, before: try SpaceCheck(table.vectors, theirs.vectors, shared: shared),
            after: after, scoreDifference: difference, scoreSize: size, isCanonical: isCanonical)
    }

    /// Known users, evenly picked, then the goldens' requests.
    private func requests(_ folder: BundleFolder) throws -> [RecommendRequest] {
        let item = JSONValue.object(
            JSONObject([("item_id", .string(try folder.tensors.strings("item_ids", count: nil)[0]))]))
        var requests: [RecommendRequest] = []
        if folder.manifest.users != nil {
            let ids = try folder.tensors.strings("user_ids", count: nil)
            let wanted = min(ids.count, Self.usersMaximum)
            for index in 0..<wanted {
                let id = ids[index * ids.count / wanted]
                // The earliest moment: the answer must not depend on when this runs.
                requests.append(
                    try RecommendRequest(
                        .object(
                            JSONObject([
                                ("user_id", .string(id)), ("now", .integer(0)),
                                ("candidates", .array([item])),
                            ]))))
            }
        }
        if let goldens = folder.optionalFile(Golden.file) {
            requests += try Golden.read(goldens.copy()).map(\.request)
        }
        return Array(requests.prefix(Self.usersMaximum))
    }

    /// The tower's vectors of `requests`, nil without a tower or requests.
    private func userVectors(
        _ requests: [RecommendRequest], _ snapshot: Snapshot, _ progress: ProgressLine
    ) throws -> Matrix? {
        guard snapshot.tower != nil, !requests.isEmpty else { return nil }
        let pipeline = RecommendPipeline(snapshot, PipelineSettings(loader.configuration), Metrics())
        var values: [Float] = []
        for (index, request) in requests.enumerated() {
            values += try pipeline.stages(of: request)["tower.user_vector"] ?? []
            progress.show("computing user vectors", index + 1, requests.count)
        }
        return Matrix(rows: requests.count, columns: snapshot.retrieval.table.dimension, values: values)
    }

    /// Largest difference of the scores of some users and items in both bundles, and the scores' size.
    private func scores(_ old: Matrix?, _ new: Matrix?, _ before: Snapshot, _ after: Snapshot) throws -> (
        difference: Double, size: Double
    ) {
        guard let old, let new else { return (0, 0) }
        let items = before.retrieval.table.count
        let rows = (0..<min(items, 500)).map { $0 * items / min(items, 500) }
        let users = (0..<min(old.rows, 500)).map { $0 * old.rows / min(old.rows, 500) }
        let table = before.retrieval.table
        func scores(_ users: Matrix, _ chosen: [Int], _ vectors: Matrix) -> [Double] {
            let w = DoubleMatrix(users, rows: chosen)
            let t = DoubleMatrix(vectors, rows: rows)
            var products = w.product(t, transposingOther: true)
            guard table.metric != .innerProduct else { return products.values }
            let userNorms = (0..<w.rows).map { i in (0..<w.columns).reduce(0) { $0 + w[i, $1] * w[i, $1] } }
            let itemNorms = (0..<t.rows).map { i in (0..<t.columns).reduce(0) { $0 + t[i, $1] * t[i, $1] } }
            for i in 0..<products.rows {
                for j in 0..<products.columns {
                    products[i, j] =
                        table.metric == .l2
                        ? 2 * products[i, j] - userNorms[i] - itemNorms[j]
                        : products[i, j] / max((userNorms[i] * itemNorms[j]).squareRoot(), 1e-24)
                }
            }
            return products.values
        }
        let a = scores(old, users, table.vectors)
        let b = scores(new, users, after.retrieval.table.vectors)
        let size = (a.reduce(0) { $0 + $1 * $1 } / Double(max(1, a.count))).squareRoot()
        return (zip(a, b).map { abs($0 - $1) }.max() ?? 0, size)
    }
}

extension Alignment.Report {
    /// Lines for people.
    var text: String {
        """
        \(isCanonical ? "canonical form, then rotation" : "rotation") onto \(items) shared items
        mean cosine before: \(before)
        mean cosine after:  \(after)
        largest difference of a score: \(scoreDifference); root mean square of scores: \(scoreSize)

        """
    }
}
