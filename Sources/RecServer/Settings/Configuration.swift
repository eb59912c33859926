import JSON

/// Every tunable of the daemon, resolved from defaults, a file, the environment and flags, in rising
/// precedence.
struct Configuration: Equatable, Sendable {
    /// A tunable's type, unit and range.
    enum Domain: Sendable, Equatable {
        case text(String)
        case integer(default: Int, range: ClosedRange<Int>, unit: String)
        case choice(default: String, of: [String])
    }

    /// One tunable: `--name-with-dashes`, `RECSERVER_NAME_WITH_UNDERSCORES`, `"name_with_underscores"` in the
    /// file.
    struct Tunable: Sendable {
        let name: String
        let domain: Domain
        let why: String

        var flag: String { "--" + String(name.map { $0 == "_" ? "-" : $0 }) }
        var variable: String { "RECSERVER_" + name.uppercased() }
    }

    /// Why the daemon refuses to start.
    struct Invalid: Error, CustomStringConvertible, Equatable {
        let description: String
    }

    /// The table; `--help`, the environment, the file and the checks all read it.
    static let tunables: [Tunable] =
        Tunable.bundles + Tunable.serving + Tunable.state + Tunable.http + Tunable.tls
        + Tunable.operating

    private var values: [String: String] = [:]

    /// - Parameters:
    ///   - file: the text of the configuration file, a JSON object, with its name for errors.
    ///   - environment: looks up a variable.
    ///   - arguments: `--flag value` or `--flag=value`.
    init(
        file: (name: String, bytes: [UInt8])? = nil, environment: (String) -> String? = { _ in nil },
        arguments: [String] = []
    ) throws(Invalid) {
        if let file { try take(file: file) }
        for tunable in Self.tunables {
            if let value = environment(tunable.variable) { try set(tunable, value, from: tunable.variable) }
        }
        try take(arguments: arguments)
    }

    /// The text of a tunable.
    func text(_ name: String) -> String { values[name] ?? Self.defaultText(Self.tunable(name)) }

    /// The number of a tunable; every integer tunable was checked when it was set.
    func integer(_ name: String) -> Int { Int(text(name)) ?? 0 }

    /// `name: value` for all, for the start-up log.
    var effective: [(name: String, value: String)] { Self.tunables.map { ($0.name, text($0.name)) } }

    private static func tunable(_ name: String) -> Tunable {
        guard let tunable = tunables.first(where: { $0.name == name }) else {
            preconditionFailure("no tunable \(name)")
        }
        return tunable
    }

    private static func defaultText(_ tunable: Tunable) -> String {
        switch tunable.domain {
        case .text(let text): text
        case .integer(let number, _, _): String(number)
        case .choice(let choice, _): choice
        }
    }

    private mutating func set(_ tunable: Tunable, _ value: String, from origin: String) throws(Invalid) {
        switch tunable.domain {
        case .text: break
        case .integer(_, let range, let unit):
            guard let number = Int(value), range.contains(number) else {
                throw Invalid(
                    description:
                        "\(origin): expected \(range.lowerBound) to \(range.upperBound) \(unit), "
                        + "found \"\(value)\""
                )
            }
        case .choice(_, let choices):
            guard choices.contains(value) else {
                throw Invalid(
                    description:
                        "\(origin): expected one of \(choices.joined(separator: ", ")), found \"\(value)\"")
            }
        }
        values[tunable.name] = value
    }

    private mutating func take(file: (name: String, bytes: [UInt8])) throws(Invalid) {
        let document: JSONValue
        do { document = try JSONParser.parse(file.bytes, depthMaximum: 2) } catch {
            throw Invalid(description: "\(file.name): \(error.description)")
        }
        guard case .object(let object) = document else {
            throw Invalid(description: "\(file.name): expected a JSON object")
        }
        for member in object.members {
            guard let tunable = Self.tunables.first(where: { $0.name == member.name }) else {
                throw Invalid(description: "\(file.name): unknown setting \"\(member.name)\"")
            }
            switch member.value {
            case .string(let text): try set(tunable, text, from: "\(file.name): \(member.name)")
            case .integer(let number): try set(tunable, String(number), from: "\(file.name): \(member.name)")
            default:
                throw Invalid(description: "\(file.name): \(member.name): expected a string or an integer")
            }
        }
    }

    /// The command line with its settings moved to the end, so that they may stand before a command's own
    /// arguments.
    static func settingsLast(_ arguments: [String]) -> [String] {
        var others: [String] = []
        var settings: [String] = []
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let name = argument.prefix { $0 != "=" }
            guard tunables.contains(where: { $0.flag == name }) else {
                others.append(argument)
                continue
            }
            settings.append(argument)
            if name.count == argument.count, let value = rest.popFirst() { settings.append(value) }
        }
        return others + settings
    }

    private mutating func take(arguments: [String]) throws(Invalid) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let tunable = Self.tunables.first(where: { $0.flag == parts[0] }) else {
                throw Invalid(description: "unknown option \(parts[0]); see --help")
            }
            if parts.count == 2 {
                try set(tunable, String(parts[1]), from: tunable.flag)
            } else if let value = rest.popFirst() {
                try set(tunable, value, from: tunable.flag)
            } else {
                throw Invalid(description: "\(tunable.flag): a value is missing")
            }
        }
    }

    /// The table for `--help`.
    static var help: String {
        var lines = [
            "SETTINGS: flag, RECSERVER_… in the environment, or key of the --config file; flags win",
            "",
        ]
        for tunable in tunables {
            let domain =
                switch tunable.domain {
                case .text(let text): text.isEmpty ? "text" : "default \(text)"
                case .integer(let number, let range, let unit):
                    "default \(number)\(unit.isEmpty ? "" : " " + unit), "
                        + "\(range.lowerBound) to \(range.upperBound)"
                case .choice(let choice, let choices):
                    "default \(choice), one of \(choices.joined(separator: ", "))"
                }
            lines.append("  \(tunable.flag)  [\(domain)]")
            lines.append("      \(tunable.why)")
        }
        return lines.joined(separator: "\n")
    }
}
