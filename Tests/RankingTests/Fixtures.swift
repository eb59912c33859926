import Artifacts
import Features
import Kernels
import Ranking
import RecCore
import TestSupport
import Testing

/// Random tensors by name, readable by the bundle code and, in double precision, by the slow twins.
struct TensorSet {
    struct Entry {
        let shape: [Int]
        let values: [Float]
    }
    private(set) var entries: [String: Entry] = [:]

    mutating func add(
        _ name: String, _ shape: [Int], scale: Float = 1, around center: Float = 0,
        _ random: inout SeededRandom
    ) {
        let values = (0..<shape.reduce(1, *)).map { _ in
            center + Float.random(in: -scale...scale, using: &random)
        }
        entries[name] = Entry(shape: shape, values: values)
    }

    mutating func set(_ name: String, _ shape: [Int], _ values: [Float]) {
        entries[name] = Entry(shape: shape, values: values)
    }

    func bundle() throws -> BundleTensors {
        var writer = SafeTensorsWriter()
        for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
            writer.add(name, floats: entry.values, shape: entry.shape)
        }
        return try BundleTensors(files: [(name: "model.safetensors", bytes: FileBytes(writer.file()))])
    }

    func has(_ name: String) -> Bool { entries[name] != nil }

    /// A vector.
    func vector(_ name: String) -> [Double] { entries[name]!.values.map(Double.init) }

    /// A matrix as rows.
    func rows(_ name: String) -> [[Double]] {
        let entry = entries[name]!
        let width = entry.shape[1]
        return (0..<entry.shape[0]).map { row in
            entry.values[row * width..<(row + 1) * width].map(Double.init)
        }
    }
}

// MARK: - Double-precision building blocks

func product(_ weight: [[Double]], _ x: [Double], plus bias: [Double]? = nil) -> [Double] {
    weight.enumerated().map { row, w in zip(w, x).reduce(bias?[row] ?? 0) { $0 + $1.0 * $1.1 } }
}

func plus(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }

func times(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 * $1 } }

func inner(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }

func silu(_ x: Double) -> Double { x * sigmoid(x) }

func norm(_ x: [Double], epsilon: Double, weight: [Double]? = nil, bias: [Double]? = nil) -> [Double] {
    let mean = x.reduce(0, +) / Double(x.count)
    let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)
    return x.indices.map {
        (x[$0] - mean) / (variance + epsilon).squareRoot() * (weight?[$0] ?? 1) + (bias?[$0] ?? 0)
    }
}

/// Largest |a − b| in units of the bound tol·|b| + tol/10·rms(b): at most 1 where both are equal; infinite
/// for other shapes or NaN.
func excess(_ a: [Double], _ b: [Double], tolerance: Double) -> Double {
    guard a.count == b.count else { return .infinity }
    let rms = (b.reduce(0) { $0 + $1 * $1 } / Double(max(1, b.count))).squareRoot()
    var worst = 0.0
    for (x, y) in zip(a, b) {
        guard x.isFinite, y.isFinite else { return .infinity }
        guard x != y else { continue }
        worst = max(worst, (x - y).magnitude / (tolerance * y.magnitude + tolerance / 10 * rms))
    }
    return worst
}

/// Two of our own paths give the same.
func expectSame(_ a: [Double], _ b: [Double], at location: SourceLocation = #_sourceLocation) {
    let worst = excess(a, b, tolerance: 1e-5)
    #expect(worst <= 1, sourceLocation: location)
}

/// Float arithmetic agrees with a double-precision twin; the bound is the one for a trainer's goldens.
func expectTwin(_ a: [Double], _ b: [Double], at location: SourceLocation = #_sourceLocation) {
    let worst = excess(a, b, tolerance: 1e-4)
    #expect(worst <= 1, sourceLocation: location)
}

func doubles(_ view: MatrixView) -> [Double] { view.copy().map(Double.init) }
func doubles(_ view: MutableMatrixView) -> [Double] { doubles(view.reading) }

/// `count` events, some without action names or times; times never fall unless `jumpy`.
func randomHistory(
    _ count: Int, items: Int, actions: Int, jumpy: Bool = false, missingTimes: Bool = false,
    _ random: inout SeededRandom
) -> [HistoryEvent] {
    var time = 1.6e9
    return (0..<count).map { _ in
        time += Double.random(in: (jumpy ? -1e5 : 0)...1e5, using: &random)
        let missing = missingTimes && Int.random(in: 0..<3, using: &random) == 0
        return HistoryEvent(
            row: Int.random(in: 0..<items, using: &random),
            action: Int.random(in: 0..<actions, using: &random),
            time: missing ? nil : time)
    }
}
