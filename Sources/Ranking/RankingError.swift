public import Features

/// Why a request cannot be ranked as asked; the peer's fault in every case.
public enum RankingError: Error, Sendable, Equatable {
    /// `weights` names a task that the ranker does not predict.
    case unknownTask(String)
    /// A weight is NaN or infinite.
    case weightNotFinite(task: String)
    /// A feature's value cannot be encoded.
    case feature(FeatureError)
    /// More candidates than the ranker has room for.
    case tooManyCandidates(count: Int, maximum: Int)
}
