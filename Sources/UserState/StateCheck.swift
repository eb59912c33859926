internal import RecCore

/// Verifies the state in a folder, also beside a daemon: one moment of it.
public struct StateCheck {
    /// What is there, and what is wrong with it.
    public struct Report: Sendable, Equatable {
        /// Users of whom something is kept.
        public var users = 0
        /// Events kept.
        public var events = 0
        /// Events of the users' whole histories.
        public var total = 0
        /// Users who were erased once.
        public var erased = 0
        /// One line each, at most `findingsMaximum`; users are named by their keys in the file, not by their
        /// ids.
        public var findings: [String] = []
        /// All findings, also those not listed.
        public var findingCount = 0

        /// Whether nothing is wrong.
        public var isGood: Bool { findingCount == 0 }

        /// Most findings that are listed.
        public static let findingsMaximum = 100

        mutating func find(_ text: String) {
            findingCount += 1
            if findings.count < Self.findingsMaximum { findings.append(text) }
        }
    }

    private let snapshot: StateSnapshot

    /// The state in `folder` as it is now.
    /// - Throws: `.unusable` when the folder holds no state.
    public init(folder: String) throws(UserStateError) { snapshot = try StateSnapshot(folder: folder) }

    /// Verifies the file's structure, then what its rows say.
    /// - Parameter progress: told the step, and how much of it is done and to do.
    public func run(
        progress: (_ step: String, _ done: Int, _ total: Int) -> Void
    ) throws(UserStateError) -> Report {
        try UserStateError.of(snapshot.path) { () throws(SQLiteError) in
            var report = Report()
            progress("structure", 0, 1)
            try structure(&report)
            progress("structure", 1, 1)
            try store(&report)
            try users(&report) { progress("users", $0, $1) }
            return report
        }
    }

    private var connection: SQLiteConnection { snapshot.connection }

    private func structure(_ report: inout Report) throws(SQLiteError) {
        let statement = try connection.compile("PRAGMA integrity_check(\(Report.findingsMaximum))")
        defer { statement.reset() }
        while try statement.step() {
            // Whole pages of findings come as one text.
            for line in (statement.text(0) ?? "").split(separator: "\n") where line != "ok" {
                report.find("file: \(line)")
            }
        }
        let orphans = [("event", "events"), ("tally", "counts"), ("seen", "event ids")]
        for (table, what) in orphans {
            let statement = try connection.compile(
                "SELECT user, count(*) FROM \(table) WHERE user NOT IN (SELECT key FROM user) GROUP BY user")
            defer { statement.reset() }
            while try statement.step() {
                report.find("user \(statement.integer(0)): \(statement.integer(1)) \(what) without the user")
            }
        }
    }

    /// What there is one of.
    private func store(_ report: inout Report) throws(SQLiteError) {
        let commit = try connection.integer("SELECT value FROM meta WHERE name = 'commit'") ?? -1
        let newest = try connection.integer(
            """
            SELECT max(
                ifnull((SELECT max(sequence) FROM tally), 0), ifnull((SELECT max(number) FROM event), 0),
                ifnull((SELECT max(sequence) FROM erased), 0))
            """)
        if commit < newest ?? 0 { report.find("store: commit \(commit), rows are of \(newest ?? 0)") }
        if try connection.integer("SELECT value FROM meta WHERE name = 'epoch'") ?? 0 == 0 {
            report.find("store: no epoch")
        }
        let secret = try connection.integer("SELECT length(value) FROM meta WHERE name = 'secret'") ?? 0
        if secret != KeyedHash.secretBytes { report.find("store: the secret has \(secret) bytes") }
        report.erased = Int(try connection.integer("SELECT count(*) FROM erased") ?? 0)
        let hashes =
            try connection.integer(
                "SELECT count(*) FROM erased WHERE length(hash) != ?",
                .integer(Int64(KeyedHash.byteCount))) ?? 0
        if hashes > 0 { report.find("store: \(hashes) hashes of another length") }
    }

    private func users(
        _ report: inout Report, _ progress: (_ done: Int, _ total: Int) -> Void
    ) throws(SQLiteError) {
        let count = try snapshot.userCount()
        let statement = try connection.statement(
            """
            SELECT key, length(CAST(id AS BLOB)), sequence, total, kept, consent, features
            FROM user LEFT JOIN tally ON tally.user = key ORDER BY key
            """)
        defer { statement.reset() }
        while try statement.step() {
            let key = statement.integer(0)
            func find(_ text: String) { report.find("user \(key): \(text)") }
            let (total, kept) = (Int(statement.integer(3)), Int(statement.integer(4)))
            if !(1...128).contains(statement.integer(1)) { find("an id of \(statement.integer(1)) bytes") }
            if statement.integer(2) < 1 { find("sequence \(statement.integer(2))") }
            if total < kept { find("\(kept) events kept, \(total) in all") }
            if !(0...1).contains(statement.integer(5)) { find("consent is \(statement.integer(5))") }
            if statement.text(6).flatMap(FeatureText.decode) == nil { find("the features are not JSON") }
            let events = try events(of: key, find)
            if events != kept { find("\(events) events, \(kept) counted") }
            report.users += 1
            report.events += events
            report.total += total
            progress(report.users, count)
        }
    }

    /// Verifies a user's events and gives their number.
    private func events(of key: Int64, _ find: (String) -> Void) throws(SQLiteError) -> Int {
        let statement = try connection.statement(
            """
            SELECT time, number, length(CAST(item AS BLOB)), length(CAST(event_id AS BLOB)) FROM event
            WHERE user = ?
            """)
        try statement.bind([.integer(key)])
        defer { statement.reset() }
        var numbers: Set<Int64> = []
        var count = 0
        while try statement.step() {
            count += 1
            let (time, number) = (statement.real(0), statement.integer(1))
            if !(time.magnitude <= 1e11) { find("event \(number): a time that is none") }
            for (column, what) in [(Int32(2), "item"), (3, "id")]
            where !(1...128).contains(statement.integer(column)) {
                find("event \(number): the \(what) has \(statement.integer(column)) bytes")
            }
            if !numbers.insert(number).inserted { find("event \(number) twice") }
        }
        return count
    }
}
