public import Artifacts
internal import Kernels

extension Calibration {
    /// The probability of a logit (ModelFormat.md §3.5); NaN for NaN.
    public func probability(logit: Double) -> Double {
        switch self {
        case .none: sigmoid(logit)
        case .platt(let a, let b): sigmoid(a * logit + b)
        case .logitOffset(let offset): sigmoid(logit + offset)
        case .isotonic(let x, let y): interpolate(sigmoid(logit), x, y)
        }
    }
}

/// Piecewise linear through the points (x, y), constant outside; `x` strictly ascending and of `y`'s length.
private func interpolate(_ p: Double, _ x: [Double], _ y: [Double]) -> Double {
    guard !p.isNaN, let firstX = x.first, let lastX = x.last, let firstY = y.first, let lastY = y.last else {
        return .nan
    }
    if p <= firstX { return firstY }
    if p >= lastX { return lastY }
    // Invariant: x[low] ≤ p < x[high].
    var low = 0
    var high = x.count - 1
    while high - low > 1 {
        let middle = (low + high) / 2
        if x[middle] <= p { low = middle } else { high = middle }
    }
    return y[low] + (y[high] - y[low]) * (p - x[low]) / (x[high] - x[low])
}
