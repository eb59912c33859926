internal import Artifacts
internal import Features
public import Kernels
public import RecCore

/// Ranks one request after the other on one thread, stage by stage so that the caller can time and skip them.
///
/// In order: `begin`, `lookUp`, then `prefill` (whose last row is also a retrieval query), `take`,
/// `scoreSequence`, `rank`, `values`. A stage that is skipped leaves zeros for the later ones. Scratch is
/// allocated once.
public final class Ranker {
    /// Most candidates of a request.
    public static let candidateMaximum = 10_000

    /// What is run.
    public let model: RankingModel
    /// Room for candidates.
    public let capacity: Int

    /// What is known of users' histories from other requests; nil computes every history anew.
    public var cache: HistoryCache?

    private let scorer: SequenceScorer?
    private let run: DCNV2Run?
    private var window: HistoryWindow?
    private let prefix: SequencePrefix?
    private let vectors: MutableMatrix  // [capacity, D]
    private let scores: MutableMatrix  // [capacity, 1]
    private let dots: MutableMatrix  // [capacity, 1]
    private let block: MutableMatrix  // [blockRows, W]
    private let logitRows: MutableMatrix  // [capacity, T]
    private var inputs: MutableMatrix?  // [≥ m, W], only when asked for

    private var query = Query(now: 0)
    private var lease: HistoryLease?
    /// How much of the history the cache had.
    public private(set) var historyOutcome = HistoryOutcome.none
    /// Events of the history that the cache had and that need not be computed.
    public private(set) var reusedEvents = 0
    private var candidates: [Candidate] = []
    private var rows: [Int] = []
    private var probabilities: [Double] = []
    private var sound: [Bool] = []
    private var isScored = false
    private var isRanked = false
    private var hasInputs = false

    /// - Parameters:
    ///   - microbatch: candidates that go through the sequence model together; no score depends on it.
    ///   - blockRows: candidates that go through DCN-V2 together; no score depends on it.
    public init(
        _ model: RankingModel, cache: HistoryCache? = nil, capacity: Int = candidateMaximum,
        microbatch: Int = SequenceScorer.blockRowsDefault,
        blockRows: Int = DCNV2Run.blockRowsDefault
    ) {
        precondition(capacity >= 0, "room for \(capacity) candidates")
        self.model = model
        self.cache = cache
        self.capacity = capacity
        scorer = model.sequence.map { SequenceScorer($0, microbatch: microbatch) }
        window = model.sequence?.makeWindow()
        prefix = model.sequence?.makePrefix()
        run = model.network.map { DCNV2Run($0.network, blockRows: blockRows) }
        let hasTarget = model.sequence?.configuration.hasTarget == true
        vectors = MutableMatrix(rows: hasTarget ? capacity : 0, columns: model.sequence?.dimension ?? 0)
        scores = MutableMatrix(rows: capacity, columns: 1)
        dots = MutableMatrix(rows: capacity, columns: 1)
        let width = model.network?.encoder.width ?? 0
        block = MutableMatrix(rows: blockRows, columns: width)
        logitRows = MutableMatrix(
            rows: model.network == nil ? 0 : capacity, columns: model.network?.tasks.count ?? 0)
        rows.reserveCapacity(capacity)
        sound.reserveCapacity(capacity)
    }

    // MARK: Stages

    /// Starts a request; what is known of the one before is forgotten.
    public func begin(_ query: Query) {
        self.query = query
        (historyOutcome, reusedEvents) = (.none, 0)
        candidates = []
        rows.removeAll(keepingCapacity: true)
        release()
        isScored = false
        isRanked = false
        hasInputs = false
    }

    /// Forgets the history, and lets other requests of its user compute it.
    public func release() {
        lease = nil
        prefix?.reset()
    }

    /// Looks the history up in the cache; waits there for another request that computes the same user's.
    /// - Parameters:
    ///   - deadline: monotonic nanoseconds until which to wait.
    ///   - isAhead: whether nobody has asked yet: then nobody waits, and nothing is counted.
    /// - Returns: events of the model's window, and how many of them `prefill` has to compute; 0 without a
    ///   sequence model.
    public func lookUp(until deadline: UInt64 = .max, isAhead: Bool = false) -> (events: Int, toCompute: Int)
    {
        guard scorer != nil, window != nil else { return (0, 0) }
        window?.fill(history: query.history, offset: query.historyOffset)
        guard let window else { return (0, 0) }
        // Before another one: a thread that holds two could wait for a thread that waits for it.
        lease = nil
        lease = cache?.lease(
            user: query.userID, window: window, base: window.count - query.sessionCount, now: query.now,
            deadline: deadline, isAhead: isAhead)
        return (window.count, window.count - (lease?.match.reusedRows ?? 0))
    }

    /// Computes what the cache does not have of the history's rows, keys and values, and keeps it there.
    ///
    /// Without a `lookUp` before it, computes all.
    /// - Parameter keepingRows: whether `historyRows` and `lastRow` will be read whatever the model's heads.
    /// - Returns: the number of events computed; 0 without a sequence model.
    @discardableResult
    public func prefill(keepingRows: Bool = false) -> Int {
        guard let scorer, let prefix, window != nil else { return 0 }
        let outputs = keepingRows ? .all : scorer.model.outputsRead
        guard let match = lease?.match else {
            window?.fill(history: query.history, offset: query.historyOffset)
            guard let window else { return 0 }
            scorer.prefill(window, now: query.now, outputs: outputs, into: prefix)
            return window.count
        }
        guard let window else { return 0 }
        prefix.adopt(match.blocks, rows: match.reusedRows, lastRow: match.lastRow)
        // The session's events are this request's alone: blocks for the others only.
        var room =
            match.isWorthStoring
            ? KeyValueBlock.count(events: max(0, window.count - query.sessionCount))
                - match.reusedRows / KeyValueBlock.events : 0
        scorer.prefill(
            window, now: query.now, reusing: match.reusedRows, outputs: outputs, into: prefix
        ) {
            room -= 1
            return room < 0 ? nil : self.cache?.takeBlock()
        }
        lease?.store(blocks: prefix.blocks, lastRow: prefix.lastRow)
        (historyOutcome, reusedEvents) = (match.outcome, match.reusedRows)
        return window.count - match.reusedRows
    }

    /// Sets the candidates of the stages that follow.
    /// - Throws: `tooManyCandidates`.
    public func take(_ candidates: [Candidate]) throws(RankingError) {
        guard candidates.count <= capacity else {
            throw .tooManyCandidates(count: candidates.count, maximum: capacity)
        }
        self.candidates = candidates
        rows.removeAll(keepingCapacity: true)
        for candidate in candidates { rows.append(candidate.row) }
        sound.removeAll(keepingCapacity: true)
        sound.append(contentsOf: repeatElement(true, count: candidates.count))
        isScored = false
        isRanked = false
    }

    /// Scores the candidates against the history with the heads the model has; zeros for an empty history.
    public func scoreSequence() {
        guard let scorer, let prefix else { return }
        let range = 0..<candidates.count
        if scorer.model.configuration.hasTarget {
            let vectors = vectors.view(rows: range)
            let scores = scores.view(rows: range)
            scorer.score(rows[...], prefix, now: query.now, vectors: vectors, scores: scores)
            // A vector with a NaN has a score with one: the score is a product with all of it.
            for row in range where !scores[row, 0].isFinite { sound[row] = false }
        }
        scorer.dotScores(rows[...], prefix, into: dots.view(rows: range))
        for row in range where !dots[row, 0].isFinite { sound[row] = false }
        isScored = true
    }

    /// Encodes the candidates' features and runs DCN-V2, a block of candidates at a time.
    ///
    /// - Parameters:
    ///   - userVector: the tower's output, [1, d]; nil when there is none.
    ///   - keepingInputs: whether `inputRows` will be read.
    /// - Throws: `feature`, when a value of the request cannot be encoded.
    public func rank(userVector: MatrixView? = nil, keepingInputs: Bool = false) throws(RankingError) {
        guard let network = model.network, let run else { return }
        probabilities.removeAll(keepingCapacity: true)
        var stages = StageValues()
        stages.itemVectors = model.itemVectors.view
        stages.popularity = model.popularity.view
        if isScored {
            stages.sequenceDot = dots.view.reading
            if model.sequence?.configuration.hasTarget == true {
                stages.sequenceScore = scores.view.reading
                stages.sequenceVector = vectors.view.reading
            }
        }
        if keepingInputs { makeRoomForInputs() }
        do throws(FeatureError) {
            // The request's columns stay in the block's rows; the candidates' are written over and over.
            try network.encoder.encodeQuery(query, userVector: userVector, into: block.view)
            for row in 1..<max(1, min(block.rows, candidates.count)) {
                block.view.copyRow(row, from: block.view.reading, row: 0)
            }
            run.begin(block.view.reading)
            var first = 0
            while first < candidates.count {
                let range = first..<min(first + run.blockRows, candidates.count)
                let x0 = block.view(rows: 0..<range.count)
                try network.encoder.encodeCandidates(
                    candidates[range], stages: stages, into: x0)
                run.logits(x0.reading, into: logitRows.view(rows: range))
                for row in range where !run.isSound(row - first) { sound[row] = false }
                if keepingInputs, let inputs = inputs?.view(rows: range) {
                    for row in 0..<range.count { inputs.copyRow(row, from: x0.reading, row: row) }
                }
                first = range.upperBound
            }
        } catch {
            throw .feature(error)
        }
        calibrate(network.tasks)
        isRanked = true
        hasInputs = keepingInputs
    }

    private func calibrate(_ tasks: [TaskDefinition]) {
        let logits = logitRows.view.reading
        let count = tasks.count
        probabilities.append(contentsOf: repeatElement(0, count: candidates.count * count))
        for (index, task) in tasks.enumerated() {
            let calibration = task.calibration
            for row in 0..<candidates.count {
                probabilities[row * count + index] = calibration.probability(
                    logit: Double(logits[row, index]))
            }
        }
    }

    private func makeRoomForInputs() {
        guard (inputs?.rows ?? -1) < candidates.count else { return }
        inputs = MutableMatrix(rows: candidates.count, columns: block.columns)
    }

    /// The value of every candidate, nil where a NaN or infinity arose: such a candidate must be dropped.
    ///
    /// Empty before `rank`, or without a ranker.
    /// - Parameter weights: in place of the bundle's for the tasks named.
    /// - Throws: `unknownTask`, `weightNotFinite`.
    public func values(weights overrides: [String: Double] = [:]) throws(RankingError) -> [Double?] {
        guard let network = model.network, isRanked else { return [] }
        let weights = try network.value.weights(overriding: overrides)
        let count = weights.count
        return candidates.indices.map { row in
            guard sound[row] else { return nil }
            let value = network.value.value(probabilities[row * count..<(row + 1) * count], weights: weights)
            return value.isFinite ? value : nil
        }
    }

    /// The sequence model's own order, for a request that skips the ranker: the target head's score, else the
    /// dot head's; nil where a NaN or infinity arose. Empty before `scoreSequence`.
    public func sequenceValues() -> [Double?] {
        guard isScored, let configuration = model.sequence?.configuration else { return [] }
        let source = configuration.hasTarget ? scores : dots
        return candidates.indices.map { sound[$0] ? Double(source[$0, 0]) : nil }
    }

    // MARK: Results, for answers, `explain` and goldens; valid until the next `begin` or `take`

    /// All rows of the history after the last layer, [len, D]; nil without a sequence model, unless `prefill`
    /// was told to keep them, or when some came from elsewhere.
    public var historyRows: MatrixView? { prefix?.rows }

    /// The newest event's row, [1, D]; nil for an empty history, and without a dot head unless `prefill` was
    /// told to keep rows.
    public var lastRow: MatrixView? { prefix?.lastRow }

    /// The dot head's scores without temperature, [m, 1]; nil without the head or before `scoreSequence`.
    public var sequenceDots: MatrixView? {
        guard isScored, model.sequence?.configuration.dot != nil else { return nil }
        return dots.view(rows: 0..<candidates.count).reading
    }

    /// The target head's scores, [m, 1]; nil without the head or before `scoreSequence`.
    public var sequenceScores: MatrixView? { targetResult(scores) }

    /// The target head's vectors, [m, D]; nil without the head or before `scoreSequence`.
    public var sequenceVectors: MatrixView? { targetResult(vectors) }

    private func targetResult(_ matrix: MutableMatrix) -> MatrixView? {
        guard isScored, model.sequence?.configuration.hasTarget == true else { return nil }
        return matrix.view(rows: 0..<candidates.count).reading
    }

    /// The ranker's input rows x0, [m, W]; nil unless `rank` was told to keep them.
    public var inputRows: MatrixView? {
        guard isRanked, hasInputs else { return nil }
        return inputs?.view(rows: 0..<candidates.count).reading
    }

    /// Logits, [m, T]; nil before `rank`.
    public var logits: MatrixView? {
        isRanked ? logitRows.view(rows: 0..<candidates.count).reading : nil
    }

    /// The calibrated probability of each task for one candidate, in the tasks' order; empty before `rank`.
    public func probabilities(of candidate: Int) -> ArraySlice<Double> {
        guard isRanked, let count = model.network?.tasks.count else { return [] }
        return probabilities[candidate * count..<(candidate + 1) * count]
    }
}
