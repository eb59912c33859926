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
    static let tunables: [Tunable] = [
        Tunable(name: "bundle", domain: .text(""), why: "folder of the model bundle to serve"),
        Tunable(
            name: "index_cache", domain: .text(""),
            why: "folder for built indexes; by default .index inside the bundle"),
        Tunable(
            name: "base_bundles", domain: .text(""),
            why: "where deltas find their base: folders that are bundles or hold some, separated by :"),
        Tunable(name: "host", domain: .text("127.0.0.1"), why: "IPv4 address to listen on; 0.0.0.0 for all"),
        Tunable(
            name: "port", domain: .integer(default: 8080, range: 0...65535, unit: ""),
            why: "TCP port; 0 picks a free one and prints it"),
        Tunable(
            name: "loops", domain: .integer(default: 1, range: 1...64, unit: "threads"),
            why: "threads that own sockets"),
        Tunable(
            name: "compute_threads", domain: .integer(default: 0, range: 0...256, unit: "threads"),
            why: "threads that compute answers; 0 takes one per core"),
        Tunable(
            name: "queue_depth", domain: .integer(default: 256, range: 1...65536, unit: "requests"),
            why: "requests that may wait for a compute thread; beyond it 503 with Retry-After"),
        Tunable(
            name: "deadline_ms", domain: .integer(default: 100, range: 1...10_000, unit: "ms"),
            why: "budget of a request that brings no deadline_ms of its own"),
        Tunable(
            name: "candidates_max", domain: .integer(default: 2000, range: 1...10_000, unit: "items"),
            why: "cap on the bundle's candidate list per request"),
        Tunable(
            name: "probes_max", domain: .integer(default: 256, range: 1...65536, unit: "lists"),
            why: "cap on the bundle's index probes per query"),
        Tunable(
            name: "shortlist_factor_max", domain: .integer(default: 16, range: 1...100, unit: ""),
            why: "cap on codes re-ranked exactly per result"),
        Tunable(
            name: "history_cache_bytes",
            domain: .integer(default: 1_073_741_824, range: 0...4_398_046_511_104, unit: "bytes"),
            why: "for users' histories as the model encodes them, kept across requests; 0 keeps none"),
        Tunable(
            name: "prewarm_users", domain: .integer(default: 1000, range: 0...100_000, unit: "users"),
            why: "users seen last whose histories a new version encodes before it serves"),
        Tunable(
            name: "prewarm_file", domain: .text(""),
            why: "file of user ids, one a line, whose stored histories are encoded before a bundle serves"),
        Tunable(
            name: "microbatch", domain: .integer(default: 64, range: 1...1024, unit: "items"),
            why: "candidates the sequence model scores at a time; changes no score"),
        Tunable(
            name: "build_at_start_max",
            domain: .integer(default: 100_000, range: 0...1_000_000_000, unit: "items"),
            why: "larger catalogues need an index made by `recserver build`"),
        Tunable(
            name: "verify_goldens", domain: .choice(default: "on", of: ["on", "off"]),
            why: "replay the bundle's goldens before it serves"),
        Tunable(
            name: "admin_host", domain: .text("127.0.0.1"),
            why: "IPv4 address of the admin listener; it answers peers on this machine only"),
        Tunable(
            name: "admin_port", domain: .integer(default: -1, range: -1...65535, unit: ""),
            why: "TCP port of the admin listener; -1 for none, 0 picks a free one and prints it"),
        Tunable(
            name: "keep_previous", domain: .choice(default: "on", of: ["on", "off"]),
            why: "keep a label's previous version in memory, so that a rollback needs no load"),
        Tunable(
            name: "memory_headroom",
            domain: .integer(default: 67_108_864, range: 0...1_099_511_627_776, unit: "bytes"),
            why: "memory that must be left when a bundle is loaded; beyond it the bundle is refused"),
        Tunable(
            name: "load_bytes_per_second",
            domain: .integer(default: 0, range: 0...1_000_000_000_000, unit: "bytes"),
            why: "how fast a bundle is read beside serving; 0 for no limit"),
        Tunable(
            name: "connections_max",
            domain: .integer(default: 10_000, range: 1...1_000_000, unit: "connections"),
            why: "open connections over all loops; beyond it 503 and close"),
        Tunable(
            name: "body_max", domain: .integer(default: 1_048_576, range: 1024...67_108_864, unit: "bytes"),
            why: "largest request body; beyond it 413"),
        Tunable(
            name: "batch_max", domain: .integer(default: 256, range: 1...10_000, unit: "lines"),
            why: "most lines of an NDJSON batch; beyond it 400"),
        Tunable(
            name: "state_dir", domain: .text(""),
            why: "folder of the user state: events, features, consent; without one nothing is kept"),
        Tunable(
            name: "state_cache_bytes",
            domain: .integer(default: 268_435_456, range: 0...1_099_511_627_776, unit: "bytes"),
            why: "for users' state in memory, in front of the folder"),
        Tunable(
            name: "history_max", domain: .integer(default: 1024, range: 16...65_536, unit: "events"),
            why: "events kept of a user"),
        Tunable(
            name: "retention_days", domain: .integer(default: 0, range: 0...36_500, unit: "days"),
            why: "after which events are dropped; 0 keeps them"),
        Tunable(
            name: "event_window_s", domain: .integer(default: 86_400, range: 0...315_360_000, unit: "s"),
            why: "an event may arrive this long after a newer one of its user; later it is refused"),
        Tunable(
            name: "event_id_days", domain: .integer(default: 7, range: 1...365, unit: "days"),
            why: "for which event ids are remembered, so that no event counts twice"),
        Tunable(
            name: "unknown_items", domain: .choice(default: "keep", of: ["keep", "refuse"]),
            why: "what becomes of events whose item the catalogue does not have"),
        Tunable(
            name: "events_max", domain: .integer(default: 10_000, range: 1...100_000, unit: "events"),
            why: "most events of one request; beyond it 400"),
        Tunable(
            name: "events_body_max",
            domain: .integer(default: 4_194_304, range: 1024...67_108_864, unit: "bytes"),
            why: "largest body of POST /events; beyond it 413"),
        Tunable(
            name: "event_queue_depth", domain: .integer(default: 1024, range: 1...65_536, unit: "changes"),
            why: "changes of user state that may wait to be written; beyond it 503 with Retry-After"),
        Tunable(
            name: "ignored_after", domain: .integer(default: 0, range: 0...1000, unit: "times"),
            why: "items shown this often to a user who did nothing with them are left out; 0 for never"),
        Tunable(
            name: "ignored_ttl_s", domain: .integer(default: 86_400, range: 1...31_536_000, unit: "s"),
            why: "for which such an item stays away, counted from when it was shown last"),
        Tunable(
            name: "popularity_half_life_s",
            domain: .integer(default: 604_800, range: 0...315_360_000, unit: "s"),
            why: "in which an event loses half its weight in what is popular; 0 leaves that to the bundle"),
        Tunable(
            name: "popularity_by", domain: .text(""),
            why: "a user feature, such as country, by whose values popularity is counted besides"),
        Tunable(
            name: "session_shift_max", domain: .integer(default: 0, range: 0...500, unit: "places"),
            why: "most places an item moves between a user's consecutive answers; 0 for no bound"),
        Tunable(
            name: "session_ttl_s", domain: .integer(default: 1800, range: 1...86_400, unit: "s"),
            why: "without a request after which a user's session is over"),
        Tunable(
            name: "eager_s", domain: .integer(default: 300, range: 0...86_400, unit: "s"),
            why: "new events of users seen this recently are encoded when the server is idle; 0 for never"),
        Tunable(
            name: "cursor_bytes",
            domain: .integer(default: 67_108_864, range: 0...1_099_511_627_776, unit: "bytes"),
            why: "for slates that cursors continue; 0 gives no cursors"),
        Tunable(
            name: "cursor_ttl_s", domain: .integer(default: 1800, range: 1...86_400, unit: "s"),
            why: "for which a cursor continues its slate"),
        Tunable(
            name: "keys_file", domain: .text(""),
            why: "JSON file of API keys, hashed, with their roles and rates; read again on SIGHUP"),
        Tunable(
            name: "rate_per_address", domain: .integer(default: 0, range: 0...1_000_000, unit: "requests/s"),
            why: "for each peer address; beyond it 429; 0 for no limit"),
        Tunable(
            name: "feedback_dir", domain: .text(""),
            why: "folder of the log of slates shown, for training; without one none is written"),
        Tunable(
            name: "feedback_percent", domain: .integer(default: 100, range: 0...100, unit: "%"),
            why: "share of slates that are logged"),
        Tunable(
            name: "feedback_file_bytes",
            domain: .integer(default: 67_108_864, range: 4096...4_294_967_296, unit: "bytes"),
            why: "size at which a new file of the log is begun"),
        Tunable(
            name: "feedback_files", domain: .integer(default: 16, range: 2...10_000, unit: "files"),
            why: "files of the log that are kept; the oldest go"),
        Tunable(
            name: "header_timeout_ms", domain: .integer(default: 10_000, range: 10...600_000, unit: "ms"),
            why: "for a whole request head; beyond it 408"),
        Tunable(
            name: "body_timeout_ms", domain: .integer(default: 30_000, range: 10...600_000, unit: "ms"),
            why: "for a whole request body; beyond it 408"),
        Tunable(
            name: "write_timeout_ms", domain: .integer(default: 30_000, range: 10...600_000, unit: "ms"),
            why: "for a client to take its answer"),
        Tunable(
            name: "idle_timeout_ms", domain: .integer(default: 60_000, range: 10...3_600_000, unit: "ms"),
            why: "between two requests of a connection"),
        Tunable(
            name: "drain_delay_ms", domain: .integer(default: 0, range: 0...600_000, unit: "ms"),
            why: "after SIGTERM /readyz says 503 and serving goes on this long, so that balancers notice"),
        Tunable(
            name: "drain_limit_ms", domain: .integer(default: 10_000, range: 0...600_000, unit: "ms"),
            why: "for requests in flight to finish after that"),
        Tunable(
            name: "log_level", domain: .choice(default: "info", of: ["debug", "info", "warning", "error"]),
            why: "least level that is logged"),
    ]

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
