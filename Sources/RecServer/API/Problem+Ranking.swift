import Features
import JSON
import Ranking

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
            self.init(error, request)
        case .tooManyCandidates(let count, let maximum):
            self.init(
                .outOfRange,
                errors: [.init(pointer: "/candidates", detail: "\(count) elements, at most \(maximum)")])
        }
    }

    /// A feature that cannot be encoded, looked for where the caller may have written it.
    init(_ error: FeatureError, _ request: RecommendRequest) {
        let key = error.key
        if request.userFeatures[key] == nil, request.contextFeatures[key] != nil {
            self.init(error, at: "/context")
        } else if request.userFeatures[key] == nil,
            let index = request.candidates?.firstIndex(where: { $0.features[key] != nil })
        {
            self.init(error, at: "/candidates/\(index)/features")
        } else {
            self.init(error, at: "/user")
        }
    }

    /// A feature that cannot be encoded, in the object at `pointer`.
    init(_ error: FeatureError, at pointer: String) {
        let kind: Kind =
            switch error {
            case .arrayNotAllowed: .wrongType
            case .outOfRange: .outOfRange
            }
        self.init(
            kind,
            errors: [
                .init(pointer: JSONObjectReader.pointer(pointer, error.key), detail: error.description)
            ])
    }
}
