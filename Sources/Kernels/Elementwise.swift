internal import CKernels

/// Functions named as in the manifest, applied element by element.
public enum Activation: String, Sendable {
    case relu, silu, gelu, tanh, identity

    /// Applies the function in place.
    public func apply(to x: MutableMatrixView) {
        for row in 0..<x.rows {
            let p = unsafe x.pointer(row: row)
            switch self {
            case .relu: unsafe CKernels_relu(p, x.columns)
            case .silu: unsafe CKernels_silu(p, x.columns)
            case .tanh: unsafe CKernels_tanh(p, x.columns)
            case .gelu: x.withRow(row) { span in for i in 0..<span.count { span[i] = geluExact(span[i]) } }
            case .identity: return
            }
        }
    }
}

extension MutableMatrixView {
    /// Logistic function, in place.
    public func sigmoid() { for row in 0..<rows { unsafe CKernels_sigmoid(pointer(row: row), columns) } }

    /// Multiplies by `factor`, in place.
    public func scale(by factor: Float) {
        for row in 0..<rows { unsafe CKernels_scale(factor, pointer(row: row), columns) }
    }

    /// Copies row `source` of `from` over row `row`; traps unless both have the same number of columns.
    public func copyRow(_ row: Int, from: MatrixView, row source: Int) {
        precondition(from.columns == columns, "\(from.columns) columns into \(columns)")
        unsafe pointer(row: row).update(from: from.pointer(row: source), count: columns)
    }

    /// Adds `factor` times row `source` of `from` to row `row`.
    public func addRow(_ row: Int, factor: Float = 1, from: MatrixView, row source: Int) {
        precondition(from.columns == columns, "\(from.columns) columns into \(columns)")
        unsafe CKernels_axpy(factor, from.pointer(row: source), pointer(row: row), columns)
    }

    /// Sets every element to `value`.
    public func fill(_ value: Float) {
        for row in 0..<rows { unsafe pointer(row: row).update(repeating: value, count: columns) }
    }

    /// self = a ∘ b; all of one shape.
    public func multiply(_ a: MatrixView, _ b: MatrixView) {
        precondition(
            a.rows == rows && b.rows == rows && a.columns == columns && b.columns == columns, "shapes differ")
        for row in 0..<rows {
            unsafe CKernels_multiply(a.pointer(row: row), b.pointer(row: row), pointer(row: row), columns)
        }
    }

    /// self += other; of one shape.
    public func add(_ other: MatrixView) {
        precondition(other.rows == rows && other.columns == columns, "shapes differ")
        for row in 0..<rows { unsafe CKernels_add(other.pointer(row: row), pointer(row: row), columns) }
    }

    /// The DCN-V2 cross step on the products of x: self = x + x0 ∘ (self + bias), rows of one width; `bias`
    /// [1, columns] (Wang et al. 2020, eq. 1).
    ///
    /// `x` may be `x0`; neither is the rows written to.
    public func cross(x0: MatrixView, x: MatrixView, bias: MatrixView) {
        precondition(
            x0.rows == rows && x.rows == rows && x0.columns == columns && x.columns == columns
                && bias.columns == columns, "shapes differ")
        for row in 0..<rows {
            unsafe CKernels_cross(
                x0.pointer(row: row), x.pointer(row: row), bias.pointer(row: 0), pointer(row: row), columns)
        }
    }

    /// Softmax over the first `count` columns of row `row` and `extraCount` further keys of score `extra`;
    /// zero after them.
    /// - Returns: the weight of one extra key.
    public func softmax(row: Int, count: Int, extra: Float = 0, extraCount: Int = 0) -> Float {
        precondition(count > 0 && count <= columns, "\(count) of \(columns) columns")
        let p = unsafe pointer(row: row)
        unsafe (p + count).update(repeating: 0, count: columns - count)
        return unsafe CKernels_softmax(p, count, extra, Float(extraCount))
    }

    /// Divides every row by max(‖row‖₂, floor).
    public func normalizeRows(floor: Float) {
        for row in 0..<rows {
            let p = unsafe pointer(row: row)
            let norm = unsafe CKernels_dot(p, p, columns).squareRoot()
            unsafe CKernels_scale(1 / max(norm, floor), p, columns)
        }
    }
}

/// Layer normalisation of every row with the population variance; `weight` and `bias` are [1, columns] or
/// absent.
///
/// `x` and `y` have one shape and may be the same rows.
public func layerNorm(
    _ x: MatrixView, weight: Matrix? = nil, bias: Matrix? = nil, epsilon: Float, into y: MutableMatrixView
) {
    precondition(x.rows == y.rows && x.columns == y.columns, "shapes differ")
    precondition(
        (weight?.columns ?? x.columns) == x.columns && (bias?.columns ?? x.columns) == x.columns,
        "affine shape")
    for row in 0..<x.rows {
        unsafe CKernels_layer_norm(
            x.pointer(row: row), weight?.view.pointer(row: 0), bias?.view.pointer(row: 0), epsilon,
            y.pointer(row: row), x.columns)
    }
}

/// The dot product of two rows of equal width.
public func dot(_ a: MatrixView, row i: Int = 0, _ b: MatrixView, row j: Int = 0) -> Float {
    precondition(a.columns == b.columns, "\(a.columns) and \(b.columns) columns")
    return unsafe CKernels_dot(a.pointer(row: i), b.pointer(row: j), a.columns)
}

/// The squared Euclidean distance of two rows of equal width.
public func squaredDistance(_ a: MatrixView, row i: Int = 0, _ b: MatrixView, row j: Int = 0) -> Float {
    precondition(a.columns == b.columns, "\(a.columns) and \(b.columns) columns")
    return unsafe CKernels_squared_distance(a.pointer(row: i), b.pointer(row: j), a.columns)
}
