internal import RecCore
public import Threading

/// Reads an export, or events from elsewhere, into a folder that no daemon has open.
///
/// Lines that are there already change nothing, so that a run that was cut short is simply begun again.
/// Memory for one transaction at a time.
public struct StateImport {
    /// What became of the lines.
    public struct Counts: Sendable, Equatable {
        /// Lines of users that were taken.
        public var users = 0
        /// Events kept.
        public var stored = 0
        /// Events that were there.
        public var duplicates = 0
        /// Events of users who do not consent here, or older than what is retained.
        public var refused = 0
        /// Lines of users who were erased here.
        public var erased = 0
        /// Lines that are no records.
        public var malformed = 0
    }

    private let store: SQLiteStore
    private let folder: String

    /// Lines of a transaction: enough for the disk's sync not to count.
    private static let lines = 20_000
    /// Bytes of a transaction's lines.
    private static let bytes = 16_777_216

    /// - Parameter limits: of what is kept; events are never too late.
    /// - Throws: `.unusable` also when another process has the folder open.
    public init(folder: String, limits: UserStateLimits) throws(UserStateError) {
        self.folder = folder
        store = try SQLiteStore(directory: folder, limits: limits)
    }

    /// Takes all lines.
    /// - Parameters:
    ///   - malformed: told the number and the fault of a line that is no record; false ends the import.
    ///   - progress: told bytes read and to read; 0 to read where that is unknown.
    public func run(
        from reader: LineReader, malformed: (_ line: Int, _ reason: String) -> Bool,
        progress: (_ done: Int, _ total: Int) -> Void
    ) throws(UserStateError) -> Counts {
        try UserStateError.of(folder) {
            var counts = Counts()
            var current: RestoredUser?
            var isAtEnd = false
            while !isAtEnd {
                let (first, start) = (reader.number, reader.offset)
                var records: [StateRecord] = []
                while reader.number - first < Self.lines, reader.offset - start < Self.bytes, !isAtEnd {
                    guard let line = try reader.next() else {
                        isAtEnd = true
                        break
                    }
                    do throws(StateRecord.Malformed) { records.append(try Self.record(line)) } catch {
                        counts.malformed += 1
                        isAtEnd = !malformed(reader.number, error.description)
                    }
                }
                try take(records, &current, isLast: isAtEnd, &counts)
                progress(reader.offset, reader.size ?? 0)
            }
            return counts
        }
    }

    private static func record(_ line: LineReader.Line) throws(StateRecord.Malformed) -> StateRecord {
        switch line {
        case .bytes(let bytes): try StateRecord(line: bytes)
        case .tooLong:
            throw StateRecord.Malformed(description: "longer than \(StateRecord.lineMaximum) bytes")
        }
    }

    private func take(
        _ records: [StateRecord], _ current: inout RestoredUser?, isLast: Bool, _ counts: inout Counts
    ) throws(UserStateError) {
        guard !records.isEmpty || current != nil else { return }
        var user = current
        let outcomes = try store.restoring { (transaction) throws(SQLiteError) in
            var outcomes: [RestoreOutcome] = []
            for record in records { outcomes.append(try transaction.restore(record, &user)) }
            if isLast { try transaction.endRestore(&user) }
            return outcomes
        }
        current = user
        for outcome in outcomes {
            switch outcome {
            case .user: counts.users += 1
            case .stored: counts.stored += 1
            case .duplicate: counts.duplicates += 1
            case .noConsent, .tooOld: counts.refused += 1
            case .erased: counts.erased += 1
            }
        }
    }
}
