public import Kernels

/// What earlier stages made of the candidates, as inputs of the ranker. What is nil counts as zeros.
///
/// Rows of the per-candidate views are the candidates' indices in the request's array.
public struct StageValues {
    /// The tower's output for the user, [1, d].
    public var userVector: MatrixView?
    /// The item vectors of the whole catalogue, [I, d].
    public var itemVectors: MatrixView?
    /// The popularity of the whole catalogue, [1, I].
    public var popularity: MatrixView?
    /// The dot head without temperature, [m, 1].
    public var sequenceDot: MatrixView?
    /// The target head's score, [m, 1].
    public var sequenceScore: MatrixView?
    /// The target head's vector, [m, D].
    public var sequenceVector: MatrixView?

    /// Values of no stage.
    public init() {}
}
