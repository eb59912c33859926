import ArgumentParser
import Threading

/// `recserver align --reference DIR --bundle DIR --out DIR`
struct AlignCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "align",
        abstract: "Write a bundle again in the vector space of another; its answers stay.",
        discussion: "The bundle is named by --bundle, like every setting.")

    @Option(help: "The bundle whose space and space_version are taken.")
    var reference: String

    @Option(help: "The folder for the aligned bundle.")
    var out: String

    @OptionGroup var options: SettingsOptions

    func run() throws {
        let configuration = try options.resolveWithBundle()
        let loader = SnapshotLoader(configuration: configuration, logger: options.logger(configuration))
        do {
            let report = try Alignment(loader: loader).run(
                reference: reference, bundle: configuration.text("bundle"), out: out)
            StandardStream.output.write(report.text)
        } catch {
            StandardStream.error.write("recserver: \(error)\n")
            throw ExitCode(1)
        }
    }
}
