import Kernels
import TestSupport
import Testing

@Suite struct DoubleMatrixTests {
    func random(_ rows: Int, _ columns: Int, _ random: inout SeededRandom) -> DoubleMatrix {
        DoubleMatrix(
            rows: rows, columns: columns,
            values: (0..<rows * columns).map { _ in Double.random(in: -1...1, using: &random) })
    }

    func distance(_ a: DoubleMatrix, _ b: DoubleMatrix) -> Double {
        #expect(a.rows == b.rows && a.columns == b.columns)
        return zip(a.values, b.values).map { abs($0 - $1) }.max() ?? 0
    }

    @Test func `a product is the triple loop, whatever is transposed`() {
        var random = SeededRandom(3)
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (7, 4, 9), (0, 3, 2), (2, 0, 3)] {
            let a = self.random(m, k, &random), b = self.random(k, n, &random)
            var expected = DoubleMatrix(rows: m, columns: n, values: [Double](repeating: 0, count: m * n))
            for i in 0..<m { for j in 0..<n { for x in 0..<k { expected[i, j] += a[i, x] * b[x, j] } } }
            #expect(distance(a.product(b), expected) < 1e-12)
            guard m * k * n > 0 else { continue }
            #expect(distance(a.transposed.product(b, transposingSelf: true), expected) < 1e-12)
            #expect(distance(a.product(b.transposed, transposingOther: true), expected) < 1e-12)
        }
    }

    @Test func `singular values are falling, their vectors orthogonal, and all of it the matrix`() throws {
        var random = SeededRandom(4)
        for n in [1, 2, 5, 40, 130] {
            let a = self.random(n, n, &random)
            let (u, s, vt) = try #require(a.singularValues())
            #expect(zip(s, s.dropFirst()).allSatisfy { $0 >= $1 } && s.allSatisfy { $0 >= 0 })
            #expect(distance(u.product(DoubleMatrix(diagonal: s)).product(vt), a) < 1e-10)
            let identity = DoubleMatrix(diagonal: [Double](repeating: 1, count: n))
            #expect(distance(u.product(u, transposingSelf: true), identity) < 1e-10)
            #expect(distance(vt.product(vt, transposingOther: true), identity) < 1e-10)
        }
        let zero = try #require(DoubleMatrix(diagonal: [0, 0]).singularValues())
        #expect(zero.s == [0, 0])
    }

    @Test func `Cholesky's triangle is upper and gives the matrix back, or nothing`() throws {
        var random = SeededRandom(5)
        for n in [1, 3, 20] {
            let a = self.random(n + 3, n, &random)
            let gram = a.product(a, transposingSelf: true)
            let r = try #require(gram.cholesky())
            #expect(distance(r.product(r, transposingSelf: true), gram) < 1e-10)
            for i in 0..<n { for j in 0..<i { #expect(r[i, j] == 0) } }
        }
        let thin = self.random(2, 3, &random)
        #expect(thin.product(thin, transposingSelf: true).cholesky() == nil)
        #expect(DoubleMatrix(diagonal: [1, -1]).cholesky() == nil)
        #expect(DoubleMatrix(diagonal: [0]).cholesky() == nil)
        #expect(DoubleMatrix(diagonal: [.nan]).cholesky() == nil)
    }

    @Test func `rows are mapped and multiplied in blocks as if at once`() {
        var random = SeededRandom(6)
        let table = random.matrix(9000, 3), map = self.random(3, 2, &random)
        var last = 0
        let mapped = table.mapped(by: map) { last = $0 }
        #expect(last == 9000 && mapped.rows == 9000 && mapped.columns == 2)
        let whole = DoubleMatrix(table, rows: 0..<9000)
        let expected = whole.product(map).floats
        #expect(mapped.view.copy() == expected.view.copy())
        let pairs = (0..<9000).map { ($0, 8999 - $0) }
        let reversed = DoubleMatrix(table, rows: (0..<9000).reversed())
        let sum = DoubleMatrix.crossProduct(table, table, pairs: pairs)
        #expect(distance(sum, whole.product(reversed, transposingSelf: true)) < 1e-8)
    }
}
