public import Artifacts
public import Kernels

/// The user half of the two-tower model: encoded inputs → query vector (ModelFormat.md §3.3).
///
/// Frozen weights, shared by all threads; each thread brings its own `Scratch`.
public struct UserTower: Sendable {
    /// Smallest norm that a vector is divided by.
    public static let normFloor: Float = 1e-12

    /// Columns of the input row.
    public let inputWidth: Int
    /// Columns of the query vector.
    public let dimension: Int
    private let layers: [(weight: Matrix, bias: Matrix)]  // [out, in], [1, out]
    private let activation: Activation
    private let normalizes: Bool

    /// The last layer, weight [dimension, in] and bias [1, dimension]; nil without layers.
    public var last: (weight: Matrix, bias: Matrix)? { layers.last }

    /// Buffers between layers; one per thread and tower.
    public final class Scratch {
        fileprivate let a: MutableMatrix
        fileprivate let b: MutableMatrix

        /// Scratch for `tower`.
        public init(for tower: UserTower) {
            let widest = tower.layers.map(\.weight.rows).max() ?? 0
            a = MutableMatrix(rows: 1, columns: widest)
            b = MutableMatrix(rows: 1, columns: widest)
        }
    }

    /// Reads `tower.user.<i>.weight` and `.bias`; throws when widths do not chain from `inputWidth` to
    /// `dimension`.
    public init(
        configuration: TowerConfiguration, inputWidth: Int, dimension: Int, tensors: BundleTensors
    ) throws(BundleError) {
        guard let activation = Activation(rawValue: configuration.activation) else {
            throw BundleError(
                file: "manifest.json", tensor: "/tower/activation", expected: "a known activation",
                found: configuration.activation)
        }
        self.activation = activation
        self.inputWidth = inputWidth
        self.dimension = dimension
        normalizes = configuration.normalize == .l2
        var layers: [(weight: Matrix, bias: Matrix)] = []
        var width = inputWidth
        for layer in 0..<max(0, configuration.layers) {
            let name = "tower.user.\(layer)"
            let isLast = layer == configuration.layers - 1
            let out = isLast ? dimension : tensors.shape(name + ".weight")?.first ?? 0
            let weight = try tensors.matrix(name + ".weight", rows: out, columns: width)
            layers.append((weight, try tensors.vector(name + ".bias", count: out)))
            width = out
        }
        guard width == dimension else {
            throw BundleError(
                file: "manifest.json", tensor: "/tower/inputs",
                expected: "\(dimension) columns at the end of the tower",
                found: "\(width)")
        }
        self.layers = layers
    }

    /// Writes the query of `input` [1, inputWidth] to `output` [1, dimension]; traps on other shapes.
    public func forward(_ input: MatrixView, scratch: Scratch, into output: MutableMatrixView) {
        precondition(
            input.rows == 1 && input.columns == inputWidth, "\(input.columns) columns, not \(inputWidth)")
        precondition(
            output.rows == 1 && output.columns == dimension, "\(output.columns) columns, not \(dimension)")
        var x = input
        if layers.isEmpty { output.copyRow(0, from: input, row: 0) }
        for (index, layer) in layers.enumerated() {
            let isLast = index == layers.count - 1
            let buffer = index.isMultiple(of: 2) ? scratch.a : scratch.b
            let y = isLast ? output : buffer.view(rows: 0..<1, columns: 0..<layer.weight.rows)
            linear(x, weight: layer.weight, bias: layer.bias, into: y)
            if !isLast { activation.apply(to: y) }
            x = y.reading
        }
        if normalizes { output.normalizeRows(floor: Self.normFloor) }
    }
}
