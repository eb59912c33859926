public import Artifacts
internal import Kernels

/// Turns task probabilities into the one value that candidates are ordered by; the only place the weights
/// meet.
public struct ValueModel: Sendable {
    /// Probabilities below this count as this in the log and power forms.
    public static let probabilityFloor = 1e-9

    /// The form of the sum or product.
    public let form: ValueConfiguration.Form
    /// Task names in the ranker's order.
    public let tasks: [String]
    /// The bundle's weight per task, 0 where it gives none.
    public let weights: [Double]

    /// The value model of a bundle.
    /// - Throws: when a weight is for no task, or not finite.
    public init(_ configuration: ValueConfiguration, tasks: [String]) throws(BundleError) {
        for (name, weight) in configuration.weights.sorted(by: { $0.key < $1.key })
        where !tasks.contains(name) || !weight.isFinite {
            throw BundleError(
                file: "manifest.json", tensor: "/value/weights/\(name)",
                expected: "a finite weight of a task", found: "\(weight)")
        }
        form = configuration.form
        self.tasks = tasks
        weights = tasks.map { configuration.weights[$0] ?? 0 }
    }

    /// The weights of one request: `overrides` in place of the bundle's for the tasks it names.
    /// - Throws: `unknownTask`, `weightNotFinite`.
    public func weights(overriding overrides: [String: Double]) throws(RankingError) -> [Double] {
        var weights = weights
        for (name, weight) in overrides.sorted(by: { $0.key < $1.key }) {
            guard let index = tasks.firstIndex(of: name) else { throw .unknownTask(name) }
            guard weight.isFinite else { throw .weightNotFinite(task: name) }
            weights[index] = weight
        }
        return weights
    }

    /// Σ w·p, Σ w·ln max(p, floor) or Π max(p, floor)^w over the tasks; `probabilities` and `weights` in the
    /// order of `tasks`.
    public func value(_ probabilities: ArraySlice<Double>, weights: [Double]) -> Double {
        precondition(
            probabilities.count == weights.count,
            "\(probabilities.count) probabilities, \(weights.count) weights")
        var value = form == .power ? 1.0 : 0
        for (task, p) in probabilities.enumerated() {
            // `max` would turn a NaN into the floor and hide it.
            let floored = p < Self.probabilityFloor ? Self.probabilityFloor : p
            switch form {
            case .linear: value += weights[task] * p
            case .log: value += weights[task] * naturalLogarithm(floored)
            case .power: value *= power(floored, weights[task])
            }
        }
        return value
    }
}
