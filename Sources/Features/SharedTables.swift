public import Artifacts
public import Kernels

/// Reads each large tensor of a bundle once, however many features and models name it.
///
/// For the one thread that loads the bundle; the matrices it gives out are frozen and may be shared.
public final class SharedTables {
    private let tensors: BundleTensors
    private var loaded: [String: Matrix] = [:]

    /// Tables of `tensors`.
    public init(_ tensors: BundleTensors) { self.tensors = tensors }

    /// The table `name` of shape [rows, columns].
    /// - Throws: when the tensor is absent, of another shape or type, or not finite.
    public func matrix(_ name: String, rows: Int, columns: Int) throws(BundleError) -> Matrix {
        if let matrix = loaded[name] {
            guard matrix.rows == rows, matrix.columns == columns else {
                throw BundleError(
                    file: "manifest.json", tensor: name, expected: "shape [\(rows), \(columns)]",
                    found: "[\(matrix.rows), \(matrix.columns)]")
            }
            return matrix
        }
        let matrix = try tensors.matrix(name, rows: rows, columns: columns)
        loaded[name] = matrix
        return matrix
    }

    /// The vector `name` of `count` values, as a matrix of one row.
    /// - Throws: when the tensor is absent, of another shape or type, or not finite.
    public func vector(_ name: String, count: Int) throws(BundleError) -> Matrix {
        if let matrix = loaded[name], matrix.rows == 1, matrix.columns == count { return matrix }
        let matrix = try tensors.vector(name, count: count)
        loaded[name] = matrix
        return matrix
    }
}
