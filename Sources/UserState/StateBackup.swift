internal import Threading

/// Copies the state in a folder to a new one, also while a daemon changes it.
public enum StateBackup {
    /// 1 MiB of the usual pages.
    private static let slicePages: Int32 = 256

    /// Copies slice by slice, rests between them as long as they took, and verifies what was written; the
    /// new folder has its name only once all of it is durable.
    ///
    /// The copy is of the moment at which it was begun: it holds every event acknowledged before. It is
    /// another store: tokens of the one it was made of mean nothing there.
    /// - Parameter progress: told pages done and to do.
    /// - Returns: what verifying the copy gave.
    /// - Throws: `.unusable` also when there is something at `target` already.
    public static func run(
        of folder: String, to target: String, progress: (_ done: Int, _ total: Int) -> Void
    ) throws(UserStateError) -> StateCheck.Report {
        let source = try StateSnapshot(folder: folder)
        let partial = try StateFolder.makePartial(of: target)
        do throws(UserStateError) {
            try UserStateError.of(partial) { try copy(source, to: partial + "/state.db", progress) }
            let report = try StateCheck(folder: partial).run { _, _, _ in }
            if let finding = report.findings.first {
                throw .unusable(path: partial, reason: "the copy is damaged: \(finding)")
            }
            try StateFolder.finish(partial: partial, as: target)
            return report
        } catch {
            StateFolder.remove(partial: partial)
            throw error
        }
    }

    private static func copy(
        _ source: StateSnapshot, to path: String, _ progress: (_ done: Int, _ total: Int) -> Void
    ) throws(SQLiteError) {
        let connection = try SQLiteConnection(path: path, access: .readWrite)
        try slices(of: source.connection, to: connection, progress)
        source.end()
        try StateSchema.configure(connection)
        try connection.run(
            "UPDATE meta SET value = ? WHERE name = 'epoch'", .integer(Int64.random(in: 1...Int64.max)))
    }

    private static func slices(
        of source: SQLiteConnection, to target: SQLiteConnection,
        _ progress: (_ done: Int, _ total: Int) -> Void
    ) throws(SQLiteError) {
        let backup = try SQLiteBackup(of: source, to: target)
        var isUnfinished = true
        while isUnfinished {
            let begun = MonotonicClock.nanoseconds
            isUnfinished = try backup.step(pages: slicePages)
            progress(backup.pageCount - backup.remaining, backup.pageCount)
            let milliseconds = (MonotonicClock.nanoseconds &- begun) / 1_000_000 + 1
            if isUnfinished { SQLiteConnection.pause(milliseconds: Int32(clamping: milliseconds)) }
        }
    }
}
