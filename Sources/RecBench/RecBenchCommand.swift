internal import ArgumentParser

/// Canonical workloads and what is measured on them; no arguments are needed.
struct RecBenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recbench", abstract: "Measures RecServer's parts on generated reference workloads.",
        subcommands: [
            RetrievalCommand.self, SequenceCommand.self, CacheCommand.self, RankerCommand.self,
            BundleCommand.self, RequestsCommand.self,
        ])
}
