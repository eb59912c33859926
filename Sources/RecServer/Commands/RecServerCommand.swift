import ArgumentParser
import Artifacts
import Logging
import Threading
import UserState

/// The command line's root.
struct RecServerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recserver",
        abstract: "Serves recommendations from a model bundle.",
        version: Server.version,
        subcommands: [
            ServeCommand.self, BuildCommand.self, CheckCommand.self, AlignCommand.self, RecommendCommand.self,
            StateCommand.self, KeyCommand.self,
        ],
        defaultSubcommand: ServeCommand.self)
}

/// Options of every subcommand.
struct SettingsOptions: ParsableArguments {
    @Option(help: "A JSON file of settings.")
    var config: String?

    @Argument(
        parsing: .allUnrecognized, help: "Settings as --name value; `recserver serve --help` lists them.")
    var settings: [String] = []

    /// The resolved configuration; exit code 2 names what is wrong.
    func resolve() throws -> Configuration {
        do {
            var file: (name: String, bytes: [UInt8])?
            if let config {
                file = (config, try FileBytes(path: config, name: config, maximum: 1 << 20).copy())
            }
            let configuration = try Configuration(
                file: file, environment: ProcessEnvironment.value, arguments: settings)
            // What no single setting shows.
            _ = try Listeners(configuration, InheritedSockets(environment: ProcessEnvironment.value))
            _ = try Edge(configuration)
            return configuration
        } catch {
            StandardStream.error.write("recserver: \(error)\n")
            throw ExitCode(2)
        }
    }

    /// The same for commands that need a bundle named.
    func resolveWithBundle() throws -> Configuration {
        let configuration = try resolve()
        guard !configuration.text("bundle").isEmpty else {
            StandardStream.error.write("recserver: --bundle: name the folder of a model bundle\n")
            throw ExitCode(2)
        }
        return configuration
    }

    /// A log at the configured level.
    func logger(_ configuration: Configuration) -> Logger {
        let level = Logger.Level(rawValue: configuration.text("log_level")) ?? .info
        return Logger(label: "recserver") { _ in JSONLogHandler(level: level) }
    }
}

/// `recserver serve`
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve a bundle over HTTP until SIGTERM.",
        discussion: Configuration.help)

    @OptionGroup var options: SettingsOptions

    func run() throws {
        let configuration = try options.resolveWithBundle()
        let logger = options.logger(configuration)
        do {
            let code = try Server(configuration: configuration, logger: logger).run()
            if code != 0 { throw ExitCode(code) }
        } catch let code as ExitCode {
            throw code
        } catch {
            logger.error("cannot serve", metadata: ["reason": "\(error)"])
            throw ExitCode(1)
        }
    }
}

/// `recserver build BUNDLE`
struct BuildCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build",
        abstract: "Verify a bundle and make its index, so that serving it starts at once.")

    @Argument(help: "The bundle's folder.")
    var bundle: String

    @OptionGroup var options: SettingsOptions

    func run() throws {
        let configuration = try options.resolve()
        let loader = SnapshotLoader(configuration: configuration, logger: options.logger(configuration))
        do {
            let snapshot = try loader.load(bundle, mayBuild: true)
            let manifest = snapshot.manifest
            StandardStream.output.write(
                "\(manifest.modelVersion): \(manifest.items.count) items, index \(snapshot.indexName)\n")
        } catch {
            StandardStream.error.write("recserver: \(error)\n")
            throw ExitCode(1)
        }
    }
}

/// `recserver check BUNDLE`
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Verify a bundle: digests, tensors, index recall, and the goldens stage by stage.")

    @Argument(help: "The bundle's folder.")
    var bundle: String

    @Option(help: "A bundle that is to share its space_version, if it has the same one.")
    var against: String?

    @OptionGroup var options: SettingsOptions

    func run() throws {
        let configuration = try options.resolve()
        let loader = SnapshotLoader(configuration: configuration, logger: options.logger(configuration))
        do {
            let report = try loader.check(bundle, against: against)
            StandardStream.output.write(report.text)
            if !report.isGood { throw ExitCode(1) }
        } catch let code as ExitCode {
            throw code
        } catch {
            StandardStream.error.write("recserver: \(error)\n")
            throw ExitCode(1)
        }
    }
}

/// `recserver recommend --bundle BUNDLE [BODY]`
struct RecommendCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recommend", abstract: "Answer one /recommend body from the command line.")

    @Argument(help: "The JSON body; {} for the popular list.")
    var body: String = "{}"

    @OptionGroup var options: SettingsOptions

    func run() throws {
        let configuration = try options.resolveWithBundle()
        let logger = options.logger(configuration)
        do {
            let snapshot = try SnapshotLoader(configuration: configuration, logger: logger).load(
                configuration.text("bundle"), mayBuild: true)
            let pipeline = RecommendPipeline(snapshot, PipelineSettings(configuration), Metrics())
            let identifiers = IdentifierSource()
            let request = try RecommendRequest(body: Array(body.utf8))
            let model = request.model ?? BundleLabel.default.rawValue
            guard [BundleLabel.default.rawValue, snapshot.manifest.modelVersion].contains(model) else {
                throw Problem(
                    .unknownModel, errors: [.init(pointer: "/model", detail: "only the default is here")])
            }
            let folder = configuration.text("state_dir")
            var stored: StoredUser?
            if !folder.isEmpty, let user = request.userID { stored = try StoredUser.read(user, in: folder) }
            let now = MonotonicClock.nanoseconds
            var clock = StageClock(start: now)
            let answer = try pipeline.recommend(request, stored: stored, receivedAt: now, clock: &clock)
            StandardStream.output.write(
                answer.encoded(
                    recommendationID: identifiers.next(), requestID: identifiers.next(), model: model)
                    + [0x0A])
        } catch let problem as Problem {
            StandardStream.error.write(problem.encoded(requestID: nil) + [0x0A])
            throw ExitCode(1)
        } catch {
            StandardStream.error.write("recserver: \(error)\n")
            throw ExitCode(1)
        }
    }
}
