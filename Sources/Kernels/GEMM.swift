internal import COpenBLAS

/// Matrix products through OpenBLAS, one thread per caller.

/// Pinned once: the daemon's own compute threads are the only parallelism.
private let pinned: Void = openblas_set_num_threads(1)

/// c = alpha · a · b (or a · bᵀ) + beta · c.
///
/// Shapes: `a` [m, k]; `b` [k, n], or [n, k] when `transposingB`; `c` [m, n]. Traps on a mismatch. No
/// allocation.
public func gemm(
    _ a: MatrixView, _ b: MatrixView, transposingB: Bool = false, alpha: Float = 1, beta: Float = 0,
    into c: MutableMatrixView
) {
    let m = a.rows
    let k = a.columns
    let n = transposingB ? b.rows : b.columns
    precondition(
        (transposingB ? b.columns : b.rows) == k,
        "inner dimensions \(k) and \(transposingB ? b.columns : b.rows)")
    precondition(c.rows == m && c.columns == n, "result [\(c.rows), \(c.columns)] for [\(m), \(n)]")
    guard m > 0, n > 0 else { return }
    // As BLAS has it, beta 0 means that `c` is not read: scratch may hold NaN.
    guard k > 0 else { return beta == 0 ? c.fill(0) : c.scale(by: beta) }
    _ = pinned
    // SAFETY: the views keep their storage alive, and their shapes were checked against each other above.
    unsafe cblas_sgemm(
        CblasRowMajor, CblasNoTrans, transposingB ? CblasTrans : CblasNoTrans, Int32(m), Int32(n), Int32(k),
        alpha, a.base, Int32(a.stride), b.base, Int32(b.stride), beta, c.reading.base, Int32(c.stride))
}

/// y = x · Wᵀ + b, a `torch.nn.Linear`.
///
/// Shapes: `x` [m, in]; `weight` [out, in]; `bias` [1, out]; `y` [m, out].
public func linear(_ x: MatrixView, weight: Matrix, bias: Matrix?, into y: MutableMatrixView) {
    if let bias {
        for row in 0..<y.rows { y.copyRow(row, from: bias.view, row: 0) }
        gemm(x, weight.view, transposingB: true, beta: 1, into: y)
    } else {
        gemm(x, weight.view, transposingB: true, into: y)
    }
}
