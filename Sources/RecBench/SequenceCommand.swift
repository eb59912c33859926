internal import ArgumentParser
internal import Artifacts
internal import Features
internal import Kernels
internal import Ranking
internal import RecCore

/// What an HSTU of a given shape costs: computing a history, adding an event to it, scoring candidates
/// against it. Weights are random.
struct SequenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sequence",
        abstract: "Processor time and arithmetic rate of prefill, append and scoring of an HSTU.")

    @Option(help: "Events of the history.") var events = 256
    @Option(help: "Candidates scored against it.") var candidates = 500
    @Option(help: "Layers.") var layers = 4
    @Option(help: "Width of the model.") var dimension = 128
    @Option(help: "Attention heads, a divisor of the width.") var heads = 4
    @Option(help: "Candidates that go through the layers together.") var microbatch = SequenceScorer
        .blockRowsDefault
    @Option(help: "Seconds between events, each up to twice as many; 0 for a model without time bias.")
    var interval = 0
    @Option(help: "Measurements of each kind; the least processor time is printed.") var rounds = 50
    @Option(help: "Seed of the weights and the history.") var seed: UInt64 = 1

    static let items = 10_000

    func validate() throws {
        guard events > 1, candidates > 0, layers > 0, heads > 0, dimension > 0, dimension % heads == 0,
            microbatch > 0, rounds > 0, interval >= 0
        else { throw ValidationError("Every size must be at least 1, and the heads divide the width.") }
    }

    func run() throws {
        let model = try makeModel()
        let scorer = SequenceScorer(model, microbatch: microbatch)
        let history = history()
        let now = (history.last?.time ?? 0) + Double(interval)
        let window = window(model, history)
        let prefix = model.makePrefix()
        let rows = (0..<candidates).map { $0 * 7919 % Self.items }
        let vectors = MutableMatrix(rows: candidates, columns: dimension)
        let scores = MutableMatrix(rows: candidates, columns: 1)
        print("# \(layers) layers, width \(dimension), \(heads) heads, interval \(interval) s, seed \(seed)")
        let prefill = try leastTime(rounds) {
            scorer.prefill(window, now: now, outputs: model.outputsRead, into: prefix)
        }
        report("prefill \(events)", prefill, rowPairs: (events, events * (events + 1) / 2))
        let append = try leastTime(rounds) {
            scorer.prefill(
                window, now: now, reusing: events - 1, outputs: model.outputsRead, into: prefix)
        }
        report("append 1 at \(events)", append, rowPairs: (1, events))
        let scoring = try leastTime(rounds) {
            scorer.score(rows[...], prefix, now: now, vectors: vectors.view, scores: scores.view)
        }
        report("score \(candidates)", scoring, rowPairs: (candidates, candidates * (events + 1)))
        let share = (scoring / (prefill + scoring) * 1000).rounded() / 1000
        print("share of scoring in prefill + scoring: \(share)")
    }

    /// Nanoseconds, and the rate for 10·D² multiply-adds a row and layer in the projections and 2·D a pair in
    /// the attention.
    private func report(_ what: String, _ nanoseconds: Double, rowPairs: (rows: Int, pairs: Int)) {
        let d = Double(dimension)
        let work = Double(layers) * (Double(rowPairs.rows) * 10 * d * d + Double(rowPairs.pairs) * 4 * d)
        let rate = (work / nanoseconds * 10).rounded() / 10
        print("\(what): \(Int(nanoseconds)) ns, \(rate) GFLOP/s")
    }

    private func history() -> [HistoryEvent] {
        var time = 1.7e9
        return (0..<events).map { index in
            time += Double(index * 7919 % max(1, 2 * interval))
            return HistoryEvent(row: index * 104_729 % Self.items, action: 0, time: time)
        }
    }

    private func window(_ model: SequenceModel, _ history: [HistoryEvent]) -> HistoryWindow {
        var window = model.makeWindow()
        window.fill(history: history)
        return window
    }

    func makeModel() throws -> SequenceModel {
        let width = dimension / heads
        let normalizer = events + 1
        let configuration = SequenceConfiguration(
            family: .hstu(
                qkDimension: width, valueDimension: width, normalizer: normalizer, positionBias: true,
                timeBias: interval > 0),
            dimension: dimension, layers: layers, heads: heads, maxEvents: events, hasTarget: true)
        var writer = SafeTensorsWriter()
        // Rows of length one, so that no layer's output grows or fades.
        func add(_ name: String, _ rows: Int, _ columns: Int) {
            let tensor = Workload(dimension: columns, seed: seed &+ UInt64(name.utf8.count)).items(rows)
            writer.add(name, tensor)
        }
        func addVector(_ name: String, _ count: Int) {
            writer.add(name, floats: (0..<count).map { Float($0 % 7) / 7 }, shape: [count])
        }
        add("sequence.item_embedding.weight", Self.items, dimension)
        add("sequence.action_embedding.weight", 2, dimension)
        add("sequence.position_embedding.weight", events + 1, dimension)
        for layer in 0..<layers {
            let name = "sequence.layers.\(layer)."
            add(name + "uvqk.weight", 4 * dimension, dimension)
            add(name + "output.weight", dimension, dimension)
            addVector(name + "output.bias", dimension)
            addVector(name + "position_bias", 2 * normalizer - 1)
            if interval > 0 { addVector(name + "time_bias", 129) }
        }
        addVector("sequence.target.norm.weight", dimension)
        addVector("sequence.target.norm.bias", dimension)
        add("sequence.target.weight", 1, dimension)
        addVector("sequence.target.bias", 1)
        let tensors = try BundleTensors(files: [("random", FileBytes(writer.file()))])
        return try SequenceModel(
            configuration, itemCount: Self.items, tensors: tensors, tables: SharedTables(tensors))
    }
}
