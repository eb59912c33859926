import Artifacts
import Kernels
import Retrieval

/// Whether two bundles that claim one `space_version` have it: their shared items point the same way.
///
/// Vectors move when a model is trained again, so they need not be equal. But they must be near, and no
/// rotation may bring them much nearer: else the axes are others.
struct SpaceCheck {
    /// Least mean cosine of shared items' vectors: half way from no relation to equality.
    static let cosineMinimum = 0.5
    /// Most that the best rotation may add to it.
    static let gainMaximum = 0.05
    /// Shared items that are compared.
    static let sampleMaximum = 1000

    /// The `tensor` of its refusals.
    static let subject = "/space_version"

    /// Shared items compared.
    let count: Int
    /// Their mean cosine.
    let cosine: Double
    /// What the rotation fitted to one half of them adds to the mean cosine of the other half.
    let gain: Double

    var isGood: Bool { count > 0 && cosine >= Self.cosineMinimum && gain <= Self.gainMaximum }

    /// Compares the shared items' vectors of two tables of one dimension.
    init(_ vectors: Matrix, _ reference: Matrix, shared: [(Int, Int)]) throws(BundleError) {
        let wanted = min(shared.count, Self.sampleMaximum)
        let sample = (0..<wanted).map { shared[$0 * shared.count / wanted] }
        let fitted = sample.indices.filter { $0.isMultiple(of: 2) }.map { sample[$0] }
        let tested = sample.indices.filter { !$0.isMultiple(of: 2) }.map { sample[$0] }
        count = wanted
        cosine = SpaceAlignment.meanCosine(vectors, reference, shared: sample)
        guard !tested.isEmpty else {
            gain = 0
            return
        }
        let rotation = try SpaceAlignment(rotating: vectors, onto: reference, shared: fitted).items
        gain =
            SpaceAlignment.meanCosine(vectors, reference, shared: tested, map: rotation)
            - SpaceAlignment.meanCosine(vectors, reference, shared: tested)
    }

    /// Verifies a snapshot beside another that serves: nothing to do when they name different spaces.
    /// - Returns: what was measured, nil when the spaces have different names.
    /// - Throws: naming `/space_version` when the name is shared and the space is not.
    @discardableResult
    static func verify(new: Snapshot, against other: Snapshot) throws(BundleError) -> SpaceCheck? {
        guard new.manifest.spaceVersion == other.manifest.spaceVersion else { return nil }
        func refuse(_ expected: String, _ found: String) -> BundleError {
            BundleError(
                file: "manifest.json", tensor: Self.subject,
                expected: "the space \(new.manifest.spaceVersion) of \(other.manifest.modelVersion): "
                    + expected,
                found: found)
        }
        let (ours, theirs) = (new.retrieval.table, other.retrieval.table)
        guard ours.dimension == theirs.dimension, ours.metric == theirs.metric else {
            throw refuse(
                "dimension \(theirs.dimension), metric \(theirs.metric)",
                "\(ours.dimension), \(ours.metric)")
        }
        let check = try SpaceCheck(
            ours.vectors, theirs.vectors, shared: SpaceAlignment.shared(new.catalog, other.catalog))
        guard check.isGood else {
            throw refuse(
                "shared items with a mean cosine of at least \(cosineMinimum) "
                    + "that no rotation betters by more than \(gainMaximum)", check.description)
        }
        return check
    }
}

extension SpaceCheck: CustomStringConvertible {
    var description: String {
        let rounded = [cosine, cosine + gain].map { ($0 * 1e4).rounded() / 1e4 }
        return "\(rounded[0]) over \(count) shared items, \(rounded[1]) after a rotation"
    }
}
