import Features
import JSON
import Ranking
import RecCore

extension Problem {
    /// A ranking failure as the caller's problem, with the place in its request.
    init(_ error: RankingError, _ request: RecommendRequest) {
        switch error {
        case .unknownTask(let task):
            self.init(
                .unknownTask, "the model does not predict \(task)",
                errors: [.init(pointer: JSONObjectReader.pointer("/weights", task), detail: "unknown task")])
        case .weightNotFinite(let task):
            self.init(
                .outOfRange,
                errors: [.init(pointer: JSONObjectReader.pointer("/weights", task), detail: "not finite")])
        case .feature(let error):
            self.init(
                error,
                Query(now: 0, userFeatures: request.userFeatures, contextFeatures: request.contextFeatures))
        case .tooManyCandidates(let count, let maximum):
            self.init(
                .outOfRange,
                errors: [.init(pointer: "/candidates", detail: "\(count) elements, at most \(maximum)")])
        }
    }

    /// A feature that cannot be encoded, looked for where the caller may have written it.
    init(_ error: FeatureError, _ query: Query) {
        let key: String
        let kind: Kind
        switch error {
        case .arrayNotAllowed(_, let name): (key, kind) = (name, .wrongType)
        case .outOfRange(_, let name): (key, kind) = (name, .outOfRange)
        }
        let place =
            query.userFeatures[key] != nil
            ? "/user" : query.contextFeatures[key] != nil ? "/context" : "/candidates/*/features"
        self.init(
            kind,
            errors: [.init(pointer: JSONObjectReader.pointer(place, key), detail: error.description)])
    }
}
