import Artifacts
import Kernels
import TestSupport
import Testing

@testable import Retrieval

extension SeededRandom {
    /// Values about 0 with deviation 1, near enough to normal.
    mutating func normal() -> Float {
        (0..<12).reduce(-6) { sum, _ in sum + Float.random(in: 0...1, using: &self) }
    }

    mutating func vectors(_ rows: Int, _ columns: Int) -> Matrix {
        Matrix(rows: rows, columns: columns, values: (0..<rows * columns).map { _ in normal() })
    }

    /// An orthogonal matrix.
    mutating func rotation(_ size: Int) -> DoubleMatrix {
        let (u, _, vt) = DoubleMatrix(vectors(size, size), rows: 0..<size).singularValues()!
        return u.product(vt)
    }
}

@Suite struct SpaceAlignmentTests {
    static func largest(_ a: Matrix, _ b: Matrix) -> Float {
        zip(a.view.copy(), b.view.copy()).map { abs($0 - $1) }.max() ?? 0
    }

    static func scores(_ users: Matrix, _ items: Matrix) -> Matrix {
        DoubleMatrix(users, rows: 0..<users.rows)
            .product(DoubleMatrix(items, rows: 0..<items.rows), transposingOther: true).floats
    }

    static func pairs(_ count: Int) -> [(Int, Int)] { (0..<count).map { ($0, $0) } }

    @Test func `a rotated space is rotated back, over the shared rows alone`() throws {
        var random = SeededRandom(41)
        for d in [1, 3, 16, 64] {
            let reference = random.vectors(300, d)
            let rotation = random.rotation(d)
            // Rows of the new catalogue: the reference's in falling order, then some of its own.
            let own = random.vectors(50, d)
            let old = DoubleMatrix(reference, rows: (0..<300).reversed()).product(rotation).floats
            let vectors = Matrix(rows: 350, columns: d, values: old.view.copy() + own.view.copy())
            let shared = (0..<300).map { ($0, 299 - $0) }
            let alignment = try SpaceAlignment(rotating: vectors, onto: reference, shared: shared)
            let aligned = vectors.mapped(by: alignment.items)
            let back = DoubleMatrix(reference, rows: (0..<300).reversed()).floats
            #expect(
                Self.largest(
                    Matrix(rows: 300, columns: d, values: Array(aligned.view.copy().prefix(300 * d))), back)
                    < 1e-5)
            #expect(
                SpaceAlignment.meanCosine(vectors, reference, shared: shared, map: alignment.items) > 0.9999)
            let users = random.vectors(20, d)
            let mapped = users.mapped(by: alignment.users)
            #expect(Self.largest(Self.scores(mapped, aligned), Self.scores(users, vectors)) < 1e-4)
        }
    }

    @Test func `any invertible map between items and users is undone, and no score moves`() throws {
        var random = SeededRandom(42)
        for d in [1, 4, 24] {
            let items = random.vectors(400, d), users = random.vectors(120, d)
            // The reference is in canonical form, as a bundle aligned before is.
            let canonical = try SpaceAlignment(
                canonising: items, users: users, onto: items, shared: Self.pairs(400))
            let reference = items.mapped(by: canonical.items)
            // G and its inverse transposed: a rotation, a stretch and a rotation.
            let (left, right) = (random.rotation(d), random.rotation(d))
            let stretch = (0..<d).map { 0.5 + Double($0) / Double(d) }
            let g = left.product(DoubleMatrix(diagonal: stretch)).product(right)
            let h = left.product(DoubleMatrix(diagonal: stretch.map { 1 / $0 })).product(right)
            let (newItems, newUsers) = (items.mapped(by: g), users.mapped(by: h))
            #expect(Self.largest(Self.scores(newUsers, newItems), Self.scores(users, items)) < 1e-3)
            let alignment = try SpaceAlignment(
                canonising: newItems, users: newUsers, onto: reference, shared: Self.pairs(400))
            let aligned = newItems.mapped(by: alignment.items)
            #expect(Self.largest(aligned, reference) < 1e-3)
            #expect(
                Self.largest(
                    Self.scores(newUsers.mapped(by: alignment.users), aligned), Self.scores(users, items))
                    < 1e-3)
            let identity = alignment.items.product(alignment.users, transposingOther: true)
            #expect(
                Self.largest(identity.floats, DoubleMatrix(diagonal: .init(repeating: 1, count: d)).floats)
                    < 1e-5)
        }
    }

    @Test func `canonical axes are those of the scores, the most important first`() throws {
        var random = SeededRandom(43)
        let (items, users) = (random.vectors(200, 6), random.vectors(90, 6))
        let unrotated = DoubleMatrix(diagonal: .init(repeating: 1, count: 6)).floats
        // Onto the identity's rows the rotation is orthogonal all the same, so that Gram matrices tell.
        let alignment = try SpaceAlignment(
            canonising: items, users: users, onto: unrotated, shared: Self.pairs(6))
        let t = items.mapped(by: alignment.items), w = users.mapped(by: alignment.users)
        // Both sides share the singular values: their Gram matrices are equal.
        let gramT = DoubleMatrix.crossProduct(t, t, pairs: Self.pairs(200))
        let gramW = DoubleMatrix.crossProduct(w, w, pairs: Self.pairs(90))
        #expect(Self.largest(gramT.floats, gramW.floats) < 1e-2)
    }

    @Test func `users or items that do not span the space are refused by name`() throws {
        var random = SeededRandom(44)
        let items = random.vectors(50, 4)
        for (vectors, users, name) in [
            (items, random.vectors(3, 4), "tower.user_vector"),
            (items, Matrix(rows: 0, columns: 4, values: []), "tower.user_vector"),
            (Matrix(rows: 50, columns: 4, values: .init(repeating: 1, count: 200)), items, "item.vector"),
        ] {
            let error = #expect(throws: BundleError.self) {
                try SpaceAlignment(canonising: vectors, users: users, onto: items, shared: Self.pairs(50))
            }
            #expect(error?.tensor == name)
        }
    }

    @Test func `zero vectors have no say in a mean cosine`() {
        let a = Matrix(rows: 3, columns: 2, values: [1, 0, 0, 0, 0, 2])
        let b = Matrix(rows: 3, columns: 2, values: [3, 0, 1, 1, 2, 0])
        #expect(SpaceAlignment.meanCosine(a, b, shared: [(0, 0), (1, 1), (2, 2)]) == 0.5)
        #expect(SpaceAlignment.meanCosine(a, b, shared: [(1, 1)]) == 0)
    }
}
