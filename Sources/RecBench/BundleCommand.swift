internal import ArgumentParser
internal import Artifacts

/// Writes a reference bundle with random weights.
struct BundleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle", abstract: "Writes a reference bundle with random weights from a seed.")

    @Option(help: "Sizes by name: \(ReferenceShape.Name.allCases.map(\.rawValue).joined(separator: ", ")).")
    var shape = ReferenceShape.Name.ref1M
    @Option(help: "Seed of all contents.") var seed: UInt64 = 1
    @Option(help: "Items, in place of the shape's.") var items: Int?
    @Option(help: "Users, in place of the shape's.") var users: Int?
    @Option(help: "Events of a history and of the window, in place of the shape's.") var events: Int?
    @Option(help: "Candidates, in place of the shape's.") var candidates: Int?
    @Option(help: "The folder to write, which must be there.") var out: String

    func validate() throws {
        let limits = [
            (items, 100...100_000_000), (users, 1...100_000_000),
            (events, ReferenceShape.windowBlock...8_192), (candidates, 1...10_000),
        ]
        for case (let value?, let limit) in limits where !limit.contains(value) {
            throw ValidationError("\(value) is not in \(limit.lowerBound) to \(limit.upperBound).")
        }
    }

    func run() throws {
        var sizes = ReferenceShape(shape)
        sizes.items = items ?? sizes.items
        sizes.users = users ?? sizes.users
        sizes.events = events ?? sizes.events
        sizes.candidates = candidates ?? sizes.candidates
        let clock = ContinuousClock()
        let start = clock.now
        try ReferenceBundle(shape: sizes, seed: seed, path: out) { text in
            print("# \((clock.now - start).components.seconds) s  \(text)")
        }.write()
    }
}
