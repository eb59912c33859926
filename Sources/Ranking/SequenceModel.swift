public import Artifacts
public import Features
public import Kernels

/// The frozen history model of a bundle, one of two families; shared by all threads.
public struct SequenceModel: Sendable {
    enum Family: Sendable {
        case hstu(HSTUModel)
        case sasrec(SASRecModel)
    }

    let family: Family
    /// The manifest's own description.
    public let configuration: SequenceConfiguration
    /// The item table, [I, D].
    public let items: Matrix

    /// Reads the tensors of `sequence.…`.
    /// - Throws: naming the first tensor that is absent or does not fit.
    public init(
        _ configuration: SequenceConfiguration, itemCount: Int, tensors: BundleTensors, tables: SharedTables
    ) throws(BundleError) {
        switch configuration.family {
        case .hstu:
            let model = try HSTUModel(configuration, itemCount: itemCount, tensors: tensors, tables: tables)
            family = .hstu(model)
            items = model.items
        case .sasrec:
            let model = try SASRecModel(configuration, itemCount: itemCount, tensors: tensors, tables: tables)
            family = .sasrec(model)
            items = model.items
        }
        self.configuration = configuration
    }

    /// Width of rows and vectors, D.
    public var dimension: Int { configuration.dimension }

    /// Shape of the keys and values that a history leaves.
    public var layout: KeyValueLayout {
        switch family {
        case .hstu(let model):
            KeyValueLayout(
                layers: model.layers.count, heads: model.heads, keyDimension: model.keyDimension,
                valueDimension: model.valueDimension)
        case .sasrec(let model):
            KeyValueLayout(
                layers: model.blocks.count, heads: model.heads, keyDimension: model.headWidth,
                valueDimension: model.headWidth)
        }
    }

    /// The rows after the last layer that the model's own heads read.
    public var outputsRead: RowOutputs { configuration.dot == nil ? .none : .newest }

    /// Storage for one history's blocks and rows.
    public func makePrefix() -> SequencePrefix {
        SequencePrefix(layout, maxEvents: configuration.maxEvents, dimension: configuration.dimension)
    }

    /// An empty window of the model's size.
    public func makeWindow() -> HistoryWindow {
        HistoryWindow(maxEvents: configuration.maxEvents, block: configuration.windowBlock)
    }
}

/// Which rows of a history are wanted after the last layer. Candidates need none: they meet keys and values.
public enum RowOutputs: Sendable {
    case all, newest, none

    /// Those of `range`, part of a history of `count` rows.
    func rows(_ range: Range<Int>, of count: Int) -> Range<Int> {
        let end = range.upperBound
        return switch self {
        case .all: range
        case .newest: range.contains(count - 1) ? count - 1..<end : end..<end
        case .none: end..<end
        }
    }
}

/// A family's forward pass with its scratch; for one thread.
protocol SequenceRun: AnyObject {
    /// Computes rows `reused`… of the window into `prefix`, whose blocks are ready, and at least `outputs` of
    /// them after the last layer; earlier rows are taken as they are.
    func prefill(
        _ window: HistoryWindow, now: Double, reusing reused: Int, outputs: RowOutputs,
        into prefix: SequencePrefix)
    /// The target head for catalogue rows, in microbatches: `vectors` [m, D], `scores` [m, 1].
    func score(
        _ rows: ArraySlice<Int>, _ prefix: SequencePrefix, now: Double,
        vectors: MutableMatrixView,
        scores: MutableMatrixView)
}

/// Runs a sequence model on one thread, with scratch allocated once.
public final class SequenceScorer {
    /// Rows that go through the layers together: large enough for the matrix products, small enough for the
    /// cache.
    public static let blockRowsDefault = 128

    /// The model that runs.
    public let model: SequenceModel
    private let run: any SequenceRun

    /// - Parameters:
    ///   - microbatch: candidates scored together, ≥ 1; no score depends on it.
    ///   - historyRows: history rows computed together, ≥ 1; no row depends on it.
    public init(
        _ model: SequenceModel, microbatch: Int = blockRowsDefault, historyRows: Int = blockRowsDefault
    ) {
        precondition(microbatch >= 1 && historyRows >= 1, "\(microbatch) candidates, \(historyRows) rows")
        self.model = model
        run =
            switch model.family {
            case .hstu(let model): HSTURun(model: model, blockRows: historyRows, microbatch: microbatch)
            case .sasrec(let model): SASRecRun(model: model, blockRows: historyRows)
            }
    }

    /// Computes keys, values and rows of a history.
    ///
    /// A history can be computed in steps, each on top of the one before, and begin with rows that the prefix
    /// adopted; no result depends on that.
    /// - Parameters:
    ///   - now: time of the question in Unix seconds; part of the newest row when the model has a time bias.
    ///   - reused: rows at the beginning of `prefix` that are valid already. The caller answers for that:
    ///     same window start, same events, and with a time bias also the same next event's time; for SASRec
    ///     the same number of events. With a dot head, less than all unless `prefix` has the last row.
    ///   - outputs: rows that are wanted after the last layer too, of those that are computed.
    ///   - allocate: gives blocks for the rows that are computed, one for each block they touch, which belong
    ///   to the caller afterwards; from its first nil on, and without it, the prefix uses blocks of its
    ///   own, which are no one else's to keep.
    public func prefill(
        _ window: HistoryWindow, now: Double, reusing reused: Int = 0, outputs: RowOutputs = .all,
        into prefix: SequencePrefix, allocate: (() -> KeyValueBlock?)? = nil
    ) {
        precondition(
            reused >= 0 && reused <= min(window.count, prefix.count),
            "\(reused) of \(prefix.count) rows reused")
        prefix.prepare(window, reusing: reused, outputs: outputs, allocate: allocate)
        run.prefill(window, now: now, reusing: reused, outputs: outputs, into: prefix)
    }

    /// The target head for catalogue rows: `vectors` [m, D] and `scores` [m, 1]; zeros for an empty history.
    ///
    /// Traps without a target head. Each candidate sees the history and itself only (M-FALCON, Zhai et al.
    /// 2024 app. H).
    public func score(
        _ rows: ArraySlice<Int>, _ prefix: SequencePrefix, now: Double, vectors: MutableMatrixView,
        scores: MutableMatrixView
    ) {
        precondition(vectors.rows == rows.count && scores.rows == rows.count, "\(rows.count) candidates")
        precondition(vectors.columns == model.dimension && scores.columns == 1, "result shape")
        guard prefix.count > 0 else {
            vectors.fill(0)
            return scores.fill(0)
        }
        run.score(rows, prefix, now: now, vectors: vectors, scores: scores)
    }

    /// The dot head for catalogue rows, without temperature: `scores` [m, 1]; zeros for an empty history or
    /// without the head.
    public func dotScores(_ rows: ArraySlice<Int>, _ prefix: SequencePrefix, into scores: MutableMatrixView) {
        precondition(scores.rows == rows.count && scores.columns == 1, "\(rows.count) candidates")
        guard let head = model.configuration.dot, let last = prefix.lastRow else { return scores.fill(0) }
        let items = model.items.view
        let norm = head.normalize == .l2 ? max(dot(last, last).squareRoot(), 1e-6) : 1
        for (index, row) in rows.enumerated() {
            let product = dot(last, row: 0, items, row: row)
            let itemNorm =
                head.normalize == .l2 ? max(dot(items, row: row, items, row: row).squareRoot(), 1e-6) : 1
            scores[index, 0] = product / norm / itemNorm
        }
    }
}
