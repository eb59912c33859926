public import Kernels

/// What a sequence model keeps of one history: keys, values and final rows. Storage for N events, reused; for
/// one thread.
///
/// Everything a candidate needs is here, so a prefix computed once serves all microbatches of a request.
public final class SequencePrefix {
    /// Per layer: HSTU [heads · key dimension, ≥ N], a column per event; SASRec [N, D], a row per event.
    let keys: [MutableMatrix]
    /// Per layer: HSTU [heads · N, value dimension], each head's rows end to end; SASRec [N, D].
    let values: [MutableMatrix]
    /// Rows after the last layer (and the final norm, if the model has one), [N, D].
    let outputs: MutableMatrix
    /// Time of each event in Unix seconds.
    var times: [Double] = []

    /// Events held: the first `count` rows of every matrix are valid.
    public internal(set) var count = 0

    init(
        layers: Int, maxEvents: Int, keyShape: (rows: Int, columns: Int),
        valueShape: (rows: Int, columns: Int), dimension: Int
    ) {
        keys = (0..<layers).map { _ in MutableMatrix(rows: keyShape.rows, columns: keyShape.columns) }
        values = (0..<layers).map { _ in MutableMatrix(rows: valueShape.rows, columns: valueShape.columns) }
        outputs = MutableMatrix(rows: maxEvents, columns: dimension)
        times.reserveCapacity(maxEvents)
    }

    /// All rows of the history after the last layer, [count, D].
    public var rows: MatrixView { outputs.view(rows: 0..<count).reading }

    /// The newest event's row, [1, D]; nil for an empty history.
    public var lastRow: MatrixView? { count == 0 ? nil : outputs.view(rows: count - 1..<count).reading }
}
