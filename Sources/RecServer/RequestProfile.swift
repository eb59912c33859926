import Artifacts
import JSON

/// By which settings a request is answered: its own over its experiment arm's over its placement's over the
/// bundle's.
struct RequestProfile {
    let placement: Placement?
    /// The arm of the bundle's experiment, or the caller's own name for one.
    let variant: String?
    /// Weights of the value model in place of the bundle's, by task.
    let weights: [String: Double]
    let diversity: Double

    /// - Parameter isReplay: leaves out the experiment: what a golden says must not depend on a draw.
    init(_ request: RecommendRequest, _ snapshot: Snapshot, isReplay: Bool = false) throws(Problem) {
        let arm = try isReplay ? nil : Self.arm(of: request, snapshot.manifest.experiment)
        variant = request.variant ?? arm?.name
        placement = try (request.placement ?? arm?.placement).map { name throws(Problem) in
            try snapshot.placement(name)
        }
        weights = (placement?.weights ?? [:])
            .merging(arm?.weights ?? [:]) { _, arm in arm }
            .merging(request.weights) { _, own in own }
        diversity = request.diversity ?? placement?.diversity ?? 0
    }

    /// The arm that the request names, else its user's own; nobody without a user id is in an experiment.
    private static func arm(
        of request: RecommendRequest, _ experiment: ExperimentConfiguration?
    ) throws(Problem) -> ExperimentConfiguration.Variant? {
        guard let experiment else { return nil }
        guard let name = request.variant else { return request.userID.flatMap(experiment.variant) }
        guard let arm = experiment.variants.first(where: { $0.name == name }) else {
            throw Problem(
                .unknownVariant,
                errors: [.init(pointer: "/variant", detail: "the experiment has no arm of this name")])
        }
        return arm
    }
}

extension Snapshot {
    /// The placement of this name.
    func placement(_ name: String) throws(Problem) -> Placement {
        guard let placement = placements[name] else {
            throw Problem(
                .unknownPlacement,
                errors: [.init(pointer: "/placement", detail: "the model has no placement of this name")])
        }
        return placement
    }
}
