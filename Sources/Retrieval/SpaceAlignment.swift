public import Artifacts
public import Kernels

/// The linear maps that turn one training's two-tower space into another's, leaving every score as it is.
///
/// The orthogonal Procrustes rotation onto a reference; before it, where vectors are compared by their inner
/// product alone, the canonical form of the factorisation (Zielnicki and Hsiao, arXiv 2508.07574). Rows are
/// vectors: v becomes v · map.
public struct SpaceAlignment: Sendable {
    /// For item vectors, [d, d].
    public let items: DoubleMatrix
    /// For user vectors, [d, d]; items · usersᵀ is the identity.
    public let users: DoubleMatrix

    /// The rotation alone: inner products, cosines and distances stay, also between items.
    /// - Parameters:
    ///   - shared: (row of `vectors`, row of `reference`) of the items both have.
    /// - Throws: when the rotation cannot be computed, naming `item.vector`.
    public init(rotating vectors: Matrix, onto reference: Matrix, shared: [(Int, Int)]) throws(BundleError) {
        items = try Self.rotation(DoubleMatrix.crossProduct(vectors, reference, pairs: shared))
        users = items
    }

    /// Canonical form, then the rotation: inner products of an item and a user stay, others do not.
    /// - Parameters:
    ///   - userVectors: vectors of users, at least d of them and independent.
    ///   - shared: (row of `vectors`, row of `reference`) of the items both have.
    /// - Throws: when items or users do not span the space, naming the side.
    public init(
        canonising vectors: Matrix, users userVectors: Matrix, onto reference: Matrix, shared: [(Int, Int)]
    ) throws(BundleError) {
        let t = try Self.triangle(vectors, "item.vector")
        let w = try Self.triangle(userVectors, "tower.user_vector")
        guard let (u, s, vt) = t.product(w, transposingOther: true).singularValues(),
            let largest = s.first, let smallest = s.last, smallest > largest * 1e-12
        else {
            throw Self.refuse("item.vector", "items and users that span their space")
        }
        let inverseRoots = DoubleMatrix(diagonal: s.map { 1 / $0.squareRoot() })
        // R_Wᵀ V S^-½ and R_Tᵀ U S^-½: no triangle is inverted.
        let itemMap = w.product(vt, transposingSelf: true, transposingOther: true).product(inverseRoots)
        let userMap = t.product(u, transposingSelf: true).product(inverseRoots)
        let cross = DoubleMatrix.crossProduct(vectors, reference, pairs: shared)
        let rotation = try Self.rotation(itemMap.product(cross, transposingSelf: true))
        items = itemMap.product(rotation)
        users = userMap.product(rotation)
    }

    /// The orthogonal R that brings A · R nearest to B, from AᵀB.
    private static func rotation(_ cross: DoubleMatrix) throws(BundleError) -> DoubleMatrix {
        guard let (u, _, vt) = cross.singularValues() else {
            throw refuse("item.vector", "a rotation onto the reference")
        }
        return u.product(vt)
    }

    /// The triangle of the thin QR of `vectors`, by Cholesky of the Gram matrix.
    private static func triangle(_ vectors: Matrix, _ name: String) throws(BundleError) -> DoubleMatrix {
        let gram = DoubleMatrix.crossProduct(vectors, vectors, pairs: (0..<vectors.rows).map { ($0, $0) })
        guard let triangle = gram.cholesky() else {
            throw refuse(name, "\(vectors.columns) independent vectors or more")
        }
        return triangle
    }

    private static func refuse(_ tensor: String, _ expected: String) -> BundleError {
        BundleError(file: "bundle", tensor: tensor, expected: expected, found: "none")
    }

    /// Mean cosine of the vectors of shared items, before and after a map; pairs with a zero vector are left
    /// out.
    public static func meanCosine(
        _ vectors: Matrix, _ reference: Matrix, shared: some Collection<(Int, Int)>, map: DoubleMatrix? = nil
    ) -> Double {
        var sum = 0.0
        var count = 0
        for (row, other) in shared {
            var a = DoubleMatrix(vectors, rows: [row])
            if let map { a = a.product(map) }
            let b = DoubleMatrix(reference, rows: [other])
            let norms =
                a.product(a, transposingOther: true)[0, 0] * b.product(b, transposingOther: true)[0, 0]
            guard norms > 0 else { continue }
            sum += a.product(b, transposingOther: true)[0, 0] / norms.squareRoot()
            count += 1
        }
        return count == 0 ? 0 : sum / Double(count)
    }

    /// The rows of the items that both catalogues have, in the order of the first.
    public static func shared(_ catalog: ItemCatalog, _ reference: ItemCatalog) -> [(Int, Int)] {
        (0..<catalog.count).compactMap { row in
            let id = catalog.utf8ID(row)
            return reference.row(ofUTF8: id.span).map { (row, $0) }
        }
    }
}
