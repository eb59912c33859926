import ArgumentParser
import Logging
import Threading
import UserState

/// `recserver state export|import|verify|compact|backup`
struct StateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "state",
        abstract: "Move, verify, compact or back up the user state of --state-dir.",
        subcommands: [
            StateExportCommand.self, StateImportCommand.self, StateVerifyCommand.self,
            StateCompactCommand.self, StateBackupCommand.self,
        ])
}

/// `recserver state export --state-dir DIR [--out FILE] [--user ID]`
struct StateExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write users and events as lines of JSON; also while a daemon serves.",
        discussion: "It is one moment of the state, and personal data: the file is its owner's alone.")

    @Option(help: "The file to write; without one, standard output.")
    var out: String?

    @Option(help: "The one user to export.")
    var user: String?

    @OptionGroup var options: SettingsOptions

    func run() throws {
        try options.onState { folder, _, progress in
            ThreadPriority.lower()
            let counts = try StateExport(folder: folder).run(user: user, to: try OutputFile(path: out)) {
                progress.show("export", $0, $1)
            }
            if user != nil, counts.users == 0 {
                throw StateFailure(description: "nothing is kept of that user")
            }
            StandardStream.error.write("\(counts.users) users, \(counts.events) events\n")
        }
    }
}

/// `recserver state import --state-dir DIR [--in FILE] [--skip-bad]`
struct StateImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Read lines of JSON into the state; not while a daemon has it open.",
        discussion: """
            The lines are those of export. What is there already stays as it is: a run that was cut short is \
            begun again with the same file. Events are never too late; those of users who do not consent or \
            were erased here are left out and counted.
            """)

    @Option(name: .customLong("in"), help: "The file to read; without one, standard input.")
    var input: String?

    @Flag(help: "Go on after lines that are no records; each is named.")
    var skipBad = false

    @OptionGroup var options: SettingsOptions

    func run() throws {
        try options.onState { folder, configuration, progress in
            let reader = try LineReader(path: input, maximum: StateRecord.lineMaximum)
            let counts = try StateImport(folder: folder, limits: UserStateLimits(configuration)).run(
                from: reader,
                malformed: { line, reason in
                    StandardStream.error.write("recserver: line \(line): \(reason)\n")
                    return skipBad
                },
                progress: { progress.show("import", $0, max($1, $0)) })
            StandardStream.output.write(
                """
                \(counts.users) users, \(counts.stored) events stored, \(counts.duplicates) there already, \
                \(counts.refused) refused, \(counts.erased) lines of erased users, \(counts.malformed) bad \
                lines\n
                """)
            if counts.malformed > 0, !skipBad {
                throw StateFailure(
                    description: "stopped at line \(reader.number); what came before it is kept")
            }
        }
    }
}

/// `recserver state verify --state-dir DIR`
struct StateVerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Verify the files, counts and rows of the state; also while a daemon serves.",
        discussion: "Findings name users by their keys in the file, never by their ids.")

    @OptionGroup var options: SettingsOptions

    func run() throws {
        try options.onState { folder, _, progress in
            ThreadPriority.lower()
            let report = try StateCheck(folder: folder).run { progress.show($0, $1, $2) }
            StandardStream.output.write(report.text)
            if !report.isGood { throw ExitCode(1) }
        }
    }
}

/// `recserver state compact --state-dir DIR`
struct StateCompactCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compact",
        abstract: "Drop what is retained no longer, and give room back; not while a daemon has it open.",
        discussion: "--retention-days and --event-id-days say what is dropped, as they do for serve.")

    @OptionGroup var options: SettingsOptions

    func run() throws {
        try options.onState { folder, configuration, progress in
            let outcome = try StateCompaction(folder: folder, limits: UserStateLimits(configuration)).run {
                progress.show($0, $1, $2)
            }
            let note = outcome.isLogHeld ? "; another process reads, which keeps the log" : ""
            StandardStream.output.write(
                """
                \(outcome.dropped) events dropped, \(outcome.before) bytes before, \(outcome.after) \
                after\(note)\n
                """)
        }
    }
}

/// `recserver state backup --state-dir DIR --out DIR`
struct StateBackupCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Copy the state into a new folder, and verify the copy; also while a daemon serves.",
        discussion: "The new folder can be served as it is. It holds what was kept when it was begun.")

    @Option(help: "The folder to make.")
    var out: String

    @OptionGroup var options: SettingsOptions

    func run() throws {
        try options.onState { folder, _, progress in
            ThreadPriority.lower()
            let report = try StateBackup.run(of: folder, to: out) { progress.show("backup", $0, $1) }
            StandardStream.output.write(report.text)
        }
    }
}

/// Why a command on the state failed, in a sentence.
private struct StateFailure: Error, CustomStringConvertible {
    let description: String
}

extension SettingsOptions {
    /// Runs `body` with the folder of the user state; a failure ends with its words and exit code 1.
    fileprivate func onState(
        _ body: (_ folder: String, Configuration, ProgressLine) throws -> Void
    ) throws {
        let configuration = try resolve()
        let folder = configuration.text("state_dir")
        guard !folder.isEmpty else {
            StandardStream.error.write("recserver: --state-dir: name the folder of the user state\n")
            throw ExitCode(2)
        }
        let logger = logger(configuration)
        let progress = ProgressLine { logger.info("\($0)") }
        do { try body(folder, configuration, progress) } catch let code as ExitCode { throw code } catch {
            StandardStream.error.write("recserver: \(error)\n")
            throw ExitCode(1)
        }
    }
}

extension StateCheck.Report {
    /// For people: counts, findings, and the verdict.
    fileprivate var text: String {
        var text = "\(users) users, \(events) events kept, \(total) in all, \(erased) users erased\n"
        for finding in findings { text += finding + "\n" }
        if findingCount > findings.count { text += "and \(findingCount - findings.count) more\n" }
        return text + (isGood ? "good\n" : "not good: \(findingCount) findings\n")
    }
}
