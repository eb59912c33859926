internal import ArgumentParser
internal import Artifacts
internal import Kernels
internal import Retrieval

/// Recall of codes with exact re-ranking against the exact twin, and what a query costs, on the reference
/// workload.
struct RetrievalCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retrieval", abstract: "Recall@k and time per query of IVFPQ with exact re-ranking.")

    /// What the cheapest setting must reach.
    static let goal = 0.95

    @Option(help: "Items in the catalogue.") var items = 1_000_000
    @Option(help: "Queries, from the items' own centres.") var queries = 500
    @Option(help: "Columns of a vector.") var dimension = 64
    @Option(help: "Inverted lists.") var lists = 4_096
    @Option(help: "Bytes of a code.") var subquantizers = 32
    @Option(help: "Neighbours asked for.") var k = 100
    @Option(help: "Seed of the workload.") var seed: UInt64 = 1
    @Option(parsing: .upToNextOption, help: "Lists scanned per query, to try.") var probes = [
        1, 2, 4, 8, 16, 32,
    ]
    @Option(parsing: .upToNextOption, help: "Codes re-ranked per neighbour, to try.") var factors = [2, 4, 8]

    private struct Trial {
        let settings: SearchSettings
        let recall: Double
        let microseconds: Double
    }

    func validate() throws {
        guard items > 0, queries > 0, dimension > 0, k > 0, !probes.isEmpty, !factors.isEmpty else {
            throw ValidationError("Every size must be at least 1.")
        }
    }

    func run() throws {
        let clock = ContinuousClock()
        let start = clock.now
        func progress(_ text: String) { print("# \(seconds(clock.now - start, digits: 1)) s  \(text)") }
        let workload = Workload(dimension: dimension, seed: seed)
        let table = VectorTable(workload.items(items), metric: .innerProduct)
        let users = workload.users(queries)
        progress("\(items) items × \(dimension), \(queries) queries, seed \(seed)")
        let configuration = IndexConfiguration(
            kind: .ivfpq, lists: lists, subquantizers: subquantizers, bits: 8)
        let codes = try FaissIndex(table, configuration: configuration) { step in
            switch step {
            case .training(let vectors):
                progress("training IVF\(lists),PQ\(subquantizers)x8 on \(vectors) vectors")
            case .adding(let done, let total): progress("added \(done) of \(total)")
            }
        }
        let index = try RerankedIndex(shortlist: codes, table: table)
        let exact = FlatIndex(table)
        var truth: [[Neighbor]] = []
        let exactTime = try clock.measure { truth = try exact.search(queries: users.view, k: k) }
        progress("exact twin: \(microseconds(exactTime, per: queries)) µs per query in one batch")
        FaissIndex.setThreads(1)
        var trials: [Trial] = []
        print("probes factor recall@\(k) µs/query")
        for probes in probes {
            for factor in factors {
                let trial = try measure(
                    index, users, truth, SearchSettings(probes: probes, shortlistFactor: factor), clock)
                trials.append(trial)
                print(
                    "\(pad(probes, 6)) \(pad(factor, 6)) \(pad(decimal(trial.recall, digits: 4), 10))",
                    pad(decimal(trial.microseconds, digits: 0), 8))
            }
        }
        report(trials)
    }

    private func measure(
        _ index: RerankedIndex, _ users: Matrix, _ truth: [[Neighbor]], _ settings: SearchSettings,
        _ clock: ContinuousClock
    ) throws -> Trial {
        let buffer = NeighborBuffer()
        let recall = try measureRecall(
            index: index, truth: truth, queries: users.view, k: k, settings: settings)
        let time = try clock.measure {
            for query in 0..<users.rows {
                try index.search(users.view.row(query), k: k, settings: settings, into: buffer)
            }
        }
        return Trial(
            settings: settings, recall: recall, microseconds: microseconds(time) / Double(users.rows))
    }

    private func report(_ trials: [Trial]) {
        let good = trials.filter { $0.recall >= Self.goal }.min { $0.microseconds < $1.microseconds }
        guard let shown = good ?? trials.max(by: { $0.recall < $1.recall }) else { return }
        print(
            "# \(good == nil ? "best" : "cheapest"): probes \(shown.settings.probes), factor",
            "\(shown.settings.shortlistFactor), \(decimal(shown.microseconds, digits: 0)) µs per query")
        print("R recall@\(k) \(decimal(shown.recall, digits: 4)) >=.95 \(good == nil ? "missed" : "met")")
    }

    // MARK: - Numbers as text

    private func microseconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) * 1e6 + Double(duration.components.attoseconds) / 1e12
    }

    private func microseconds(_ duration: Duration, per count: Int) -> String {
        decimal(microseconds(duration) / Double(count), digits: 0)
    }

    private func seconds(_ duration: Duration, digits: Int) -> String {
        decimal(microseconds(duration) / 1e6, digits: digits)
    }

    private func decimal(_ x: Double, digits: Int) -> String {
        let unit = (0..<digits).reduce(1.0) { value, _ in value * 10 }
        let scaled = Int((x * unit).rounded())
        guard digits > 0 else { return "\(scaled)" }
        let fraction = "\(scaled % Int(unit))"
        return "\(scaled / Int(unit))." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    private func pad(_ value: some CustomStringConvertible, _ width: Int) -> String {
        let text = value.description
        return String(repeating: " ", count: max(0, width - text.count)) + text
    }
}
