internal import CKernels
internal import Glibc

/// Scalar functions for code that may not import the C library.

/// Exact GELU: x · Φ(x).
public func geluExact(_ x: Float) -> Float { 0.5 * x * (1 + erff(x * 0.70710678)) }

/// Logistic function in double precision.
public func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

/// Natural logarithm in double precision.
public func naturalLogarithm(_ x: Double) -> Double { log(x) }

/// Natural logarithm of 1 + x in double precision.
public func naturalLogarithm1p(_ x: Double) -> Double { log1p(x) }

/// x raised to `exponent` in double precision.
public func power(_ x: Double, _ exponent: Double) -> Double { pow(x, exponent) }

/// Floating storage formats of a bundle besides Float.
public enum PackedFloat: Sendable {
    case half, bfloat

    /// Widens little-endian 16-bit values; both spans have one length.
    public func widen(_ packed: Span<UInt16>, into values: inout MutableSpan<Float>) {
        precondition(packed.count == values.count, "\(packed.count) into \(values.count)")
        let half = self == .half
        unsafe packed.withUnsafeBufferPointer { source in
            unsafe values.withUnsafeMutableBufferPointer { target in
                guard let s = source.baseAddress, let t = target.baseAddress else { return }
                if half {
                    unsafe CKernels_from_half(s, t, source.count)
                } else {
                    unsafe CKernels_from_bfloat(s, t, source.count)
                }
            }
        }
    }
}
