internal import COpenBLAS

/// A row-major matrix in double precision, for algebra that is done once and away from requests.
public struct DoubleMatrix: Sendable {
    /// Rows, ≥ 0.
    public let rows: Int
    /// Columns, ≥ 0.
    public let columns: Int
    /// The elements, row by row.
    public private(set) var values: [Double]

    /// Rows of float matrices that are widened at a time: some megabytes.
    static let block = 4096

    /// A matrix of `values`; traps unless there are `rows · columns` of them.
    public init(rows: Int, columns: Int, values: [Double]) {
        precondition(values.count == rows * columns, "\(values.count) values for [\(rows), \(columns)]")
        self.rows = rows
        self.columns = columns
        self.values = values
    }

    /// The square matrix with `diagonal` on its diagonal and zeros elsewhere.
    public init(diagonal: [Double]) {
        self.init(
            rows: diagonal.count, columns: diagonal.count,
            values: [Double](repeating: 0, count: diagonal.count * diagonal.count))
        for i in diagonal.indices { self[i, i] = diagonal[i] }
    }

    /// The given rows of a float matrix; traps when one is out of range.
    public init(_ matrix: Matrix, rows: some Collection<Int>) {
        var values: [Double] = []
        values.reserveCapacity(rows.count * matrix.columns)
        for row in rows {
            matrix.view.withRow(row) { source in
                for i in 0..<source.count { values.append(Double(source[i])) }
            }
        }
        self.init(rows: rows.count, columns: matrix.columns, values: values)
    }

    /// One element; traps when out of range.
    public subscript(row: Int, column: Int) -> Double {
        get {
            precondition(column >= 0 && column < columns, "column \(column) of \(columns)")
            return values[row * columns + column]
        }
        set {
            precondition(column >= 0 && column < columns, "column \(column) of \(columns)")
            values[row * columns + column] = newValue
        }
    }

    /// The same elements as floats.
    public var floats: Matrix { Matrix(rows: rows, columns: columns, values: values.map { Float($0) }) }

    /// The matrix with rows and columns exchanged.
    public var transposed: DoubleMatrix {
        product(DoubleMatrix(diagonal: [Double](repeating: 1, count: rows)), transposingSelf: true)
    }

    /// self · other, either of them transposed first where asked; traps when inner dimensions differ.
    public func product(
        _ other: DoubleMatrix, transposingSelf: Bool = false, transposingOther: Bool = false
    ) -> DoubleMatrix {
        let m = transposingSelf ? columns : rows
        let k = transposingSelf ? rows : columns
        let n = transposingOther ? other.rows : other.columns
        precondition(
            (transposingOther ? other.columns : other.rows) == k,
            "inner dimensions \(k) and \(transposingOther ? other.columns : other.rows)")
        var result = DoubleMatrix(rows: m, columns: n, values: [Double](repeating: 0, count: m * n))
        guard m > 0, n > 0, k > 0 else { return result }
        // SAFETY: the buffers are alive during the call, and the shapes were checked against each other.
        unsafe values.withUnsafeBufferPointer { a in
            unsafe other.values.withUnsafeBufferPointer { b in
                unsafe result.values.withUnsafeMutableBufferPointer { c in
                    unsafe cblas_dgemm(
                        CblasRowMajor, transposingSelf ? CblasTrans : CblasNoTrans,
                        transposingOther ? CblasTrans : CblasNoTrans, Int32(m), Int32(n), Int32(k), 1,
                        a.baseAddress, Int32(columns), b.baseAddress, Int32(other.columns), 0, c.baseAddress,
                        Int32(n))
                }
            }
        }
        return result
    }

    /// aᵀ · b over pairs of rows: the sum of a[i]ᵀ · b[j] for every (i, j) of `pairs`.
    ///
    /// Shape [a.columns, b.columns].
    public static func crossProduct(_ a: Matrix, _ b: Matrix, pairs: [(Int, Int)]) -> DoubleMatrix {
        var sum = [Double](repeating: 0, count: a.columns * b.columns)
        for start in stride(from: 0, to: pairs.count, by: block) {
            let part = pairs[start..<min(start + block, pairs.count)]
            let left = DoubleMatrix(a, rows: part.map(\.0))
            let right = DoubleMatrix(b, rows: part.map(\.1))
            let product = left.product(right, transposingSelf: true)
            for i in sum.indices { sum[i] += product.values[i] }
        }
        return DoubleMatrix(rows: a.columns, columns: b.columns, values: sum)
    }

    /// R, upper triangular, with Rᵀ · R = self; nil when self is not symmetric positive definite, or so
    /// nearly not that doubles cannot tell. Traps unless square.
    public func cholesky() -> DoubleMatrix? {
        precondition(rows == columns, "[\(rows), \(columns)] is not square")
        var r = DoubleMatrix(diagonal: [Double](repeating: 0, count: rows))
        // 1e-13: some hundred roundings of a double.
        let floor = (0..<rows).map { self[$0, $0] }.reduce(0, max) * 1e-13
        for i in 0..<rows {
            for j in i..<rows {
                var rest = self[i, j]
                for k in 0..<i { rest -= r[k, i] * r[k, j] }
                if i == j {
                    guard rest > floor else { return nil }
                    r[i, i] = rest.squareRoot()
                } else {
                    r[i, j] = rest / r[i, i]
                }
            }
        }
        return r
    }

    /// U, s falling and Vᵀ with self = U · diag(s) · Vᵀ; nil when it does not converge. Traps unless square
    /// and not empty.
    public func singularValues() -> (u: DoubleMatrix, s: [Double], vt: DoubleMatrix)? {
        precondition(rows == columns && rows > 0, "[\(rows), \(columns)] is not square")
        // Row-major self is column-major selfᵀ = V S Uᵀ, and the factors come back transposed the same way.
        var size = Int32(rows)
        var a = values
        var s = [Double](repeating: 0, count: rows)
        var left = [Double](repeating: 0, count: rows * rows)
        var right = left
        var integers = [Int32](repeating: 0, count: 8 * rows)
        var status: Int32 = 0
        var wanted = [0.0]
        // The first call asks for the size of the workspace.
        for isQuery in [true, false] {
            var length: Int32 = isQuery ? -1 : Int32(wanted[0])
            var work = isQuery ? [0.0] : [Double](repeating: 0, count: Int(length))
            var job = CChar(UInt8(ascii: "A"))
            // SAFETY: every array has the size that dgesdd asks for, and none of them overlap.
            unsafe dgesdd_(
                &job, &size, &size, &a, &size, &s, &left, &size, &right, &size, &work, &length, &integers,
                &status, 1)
            guard status == 0 else { return nil }
            wanted = [work[0]]
        }
        return (
            DoubleMatrix(rows: rows, columns: rows, values: right), s,
            DoubleMatrix(rows: rows, columns: rows, values: left)
        )
    }
}

extension Matrix {
    /// Every row times `map` [columns, n], in double precision; traps when widths differ.
    public func mapped(by map: DoubleMatrix, progress: (Int) -> Void = { _ in }) -> Matrix {
        precondition(map.rows == columns, "\(columns) columns by [\(map.rows), \(map.columns)]")
        return Matrix(rows: rows, columns: map.columns) { target in
            for start in stride(from: 0, to: rows, by: DoubleMatrix.block) {
                let block = start..<min(start + DoubleMatrix.block, rows)
                let product = DoubleMatrix(self, rows: block).product(map).values
                let offset = start * map.columns
                for i in product.indices { target[offset + i] = Float(product[i]) }
                progress(block.upperBound)
            }
        }
    }
}
