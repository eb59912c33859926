// UNSAFE ALLOWED: the only file that calls SQLite.
internal import CSQLite

/// What SQLite says when it fails.
struct SQLiteError: Error, Equatable {
    /// The extended result code.
    let code: Int32
    /// SQLite's own words.
    let message: String

    /// Code and words without anything of the data.
    var reason: String { "SQLite \(code): \(message)" }
    /// The kind of failure without its details.
    var primaryCode: Int32 { code & 0xff }
    /// Another connection is in the way.
    var isBusy: Bool { primaryCode == SQLITE_BUSY || primaryCode == SQLITE_LOCKED }
    /// The statement's own fault: others may still succeed on the same connection.
    var isOfStatement: Bool {
        [SQLITE_CONSTRAINT, SQLITE_TOOBIG, SQLITE_MISMATCH, SQLITE_RANGE].contains(primaryCode)
    }
}

/// A connection to one database file, with the statements prepared on it; one thread at a time.
@safe
final class SQLiteConnection {
    enum Access { case readWrite, readOnly }

    fileprivate let handle: OpaquePointer
    /// By the address of their text: no text is compared.
    private var prepared: [UInt: SQLiteStatement] = [:]

    /// Opens, and with `.readWrite` makes, the database at `path`.
    init(path: String, access: Access) throws(SQLiteError) {
        let registered = CSQLite_register()
        guard registered == SQLITE_OK else { throw SQLiteError(code: registered, message: "no file system") }
        let flags =
            SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
            | (access == .readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
        var opened: OpaquePointer?
        // SAFETY: the name is copied; `opened` is set also on failure, where it must be closed.
        let status = unsafe sqlite3_open_v2(path, &opened, flags, "recserver")
        guard status == SQLITE_OK, let opened = unsafe opened else {
            let message = unsafe String(cString: sqlite3_errstr(status))
            unsafe sqlite3_close_v2(opened)
            throw SQLiteError(code: status, message: message)
        }
        unsafe handle = opened
    }

    deinit {
        prepared = [:]
        // SAFETY: opened in init; the file is closed when the last statement is gone too.
        unsafe sqlite3_close_v2(handle)
    }

    // SAFETY: for all calls below, the handle lives exactly as long as self.

    /// Whether statements are part of a transaction that is neither committed nor rolled back.
    var isInTransaction: Bool { unsafe sqlite3_get_autocommit(handle) == 0 }
    /// Rows that the last statement inserted, updated or deleted.
    var changes: Int { Int(unsafe sqlite3_changes64(handle)) }

    /// How long a call waits for other connections, in milliseconds.
    func wait(atMost milliseconds: Int32) { _ = unsafe sqlite3_busy_timeout(handle, milliseconds) }

    /// Runs statements that bind nothing, and passes over their rows.
    func execute(_ sql: String) throws(SQLiteError) {
        let status = unsafe sqlite3_exec(handle, sql, nil, nil, nil)
        guard status == SQLITE_OK else { throw error(status) }
    }

    /// The statement of this place in the program, compiled once a connection, reset; old bindings stay.
    func statement(_ sql: StaticString) throws(SQLiteError) -> SQLiteStatement {
        let place = UInt(bitPattern: unsafe sql.utf8Start)
        if let found = prepared[place] {
            found.reset()
            return found
        }
        let statement = try compile("\(sql)", keeps: true)
        prepared[place] = statement
        return statement
    }

    /// A statement that is put together as the program runs.
    func compile(_ sql: String, keeps: Bool = false) throws(SQLiteError) -> SQLiteStatement {
        var compiled: OpaquePointer?
        let flags = keeps ? UInt32(SQLITE_PREPARE_PERSISTENT) : 0
        let status = unsafe sqlite3_prepare_v3(handle, sql, -1, flags, &compiled, nil)
        guard status == SQLITE_OK, let compiled = unsafe compiled else { throw error(status) }
        return unsafe SQLiteStatement(compiled, of: handle)
    }

    /// Runs one statement to its end.
    func run(_ sql: StaticString, _ values: SQLiteValue...) throws(SQLiteError) { try run(sql, values) }

    /// Runs one statement to its end.
    func run(_ sql: StaticString, _ values: [SQLiteValue]) throws(SQLiteError) {
        let statement = try statement(sql)
        try statement.bind(values)
        defer { statement.reset() }
        while try statement.step() {}
    }

    /// The integer in the first column of the first row; nil without a row, or for NULL.
    func integer(_ sql: StaticString, _ values: SQLiteValue...) throws(SQLiteError) -> Int64? {
        let statement = try statement(sql)
        try statement.bind(values)
        defer { statement.reset() }
        return try statement.step() && !statement.isNull(0) ? statement.integer(0) : nil
    }

    /// Moves what the log holds into the database file; with `truncates` the log is empty afterwards.
    /// - Returns: whether all was moved: false while others read or write.
    func checkpoint(truncates: Bool) throws(SQLiteError) -> Bool {
        var frames: Int32 = 0
        var moved: Int32 = 0
        let status = unsafe sqlite3_wal_checkpoint_v2(
            handle, nil, truncates ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &frames, &moved)
        if status & 0xff == SQLITE_BUSY { return false }
        guard status == SQLITE_OK else { throw error(status) }
        return frames == moved
    }

    fileprivate func error(_ status: Int32) -> SQLiteError {
        SQLiteError(code: status, message: unsafe String(cString: sqlite3_errmsg(handle)))
    }
}

/// A value to bind.
enum SQLiteValue {
    case integer(Int64)
    case real(Double)
    case text(String)
    case blob([UInt8])
    case null
}

/// A compiled statement; on the thread of its connection.
@safe
final class SQLiteStatement {
    private let handle: OpaquePointer
    private let connection: OpaquePointer

    fileprivate init(_ handle: OpaquePointer, of connection: OpaquePointer) {
        unsafe self.handle = handle
        unsafe self.connection = connection
    }

    // SAFETY: the connection's file is closed when the last statement is finalized, not earlier.
    deinit { unsafe sqlite3_finalize(handle) }

    // SAFETY: for all calls below, the handle lives as long as self; what is bound is copied, what is read is
    // copied before the next call.

    /// Binds the parameters from the first on.
    func bind(_ values: [SQLiteValue]) throws(SQLiteError) {
        var index: Int32 = 0
        for value in values {
            index += 1
            let status: Int32 =
                switch value {
                case .integer(let integer): unsafe sqlite3_bind_int64(handle, index, integer)
                case .real(let real): unsafe sqlite3_bind_double(handle, index, real)
                case .text(let text): bind(text, at: index)
                case .blob(let bytes):
                    unsafe bytes.withUnsafeBytes { source in
                        unsafe CSQLite_bind_blob(
                            handle, index, source.baseAddress, Int32(clamping: source.count))
                    }
                case .null: unsafe sqlite3_bind_null(handle, index)
                }
            guard status == SQLITE_OK else { throw error(status) }
        }
    }

    private func bind(_ text: String, at index: Int32) -> Int32 {
        var text = text
        return text.withUTF8 { source in
            // An empty string has no address, which would be NULL.
            guard !source.isEmpty else { return unsafe CSQLite_bind_text(handle, index, "", 0) }
            return unsafe source.withMemoryRebound(to: CChar.self) { characters in
                unsafe CSQLite_bind_text(
                    handle, index, characters.baseAddress, Int32(clamping: characters.count))
            }
        }
    }

    /// Goes to the next row; false at the end.
    func step() throws(SQLiteError) -> Bool {
        let status = unsafe sqlite3_step(handle)
        switch status {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default:
            let failure = error(status)
            reset()
            throw failure
        }
    }

    /// Makes it ready for its next run; bindings stay.
    func reset() { _ = unsafe sqlite3_reset(handle) }

    /// Whether the column of the row is NULL.
    func isNull(_ column: Int32) -> Bool { unsafe sqlite3_column_type(handle, column) == SQLITE_NULL }
    /// The column as an integer; 0 for what is none.
    func integer(_ column: Int32) -> Int64 { unsafe sqlite3_column_int64(handle, column) }
    /// The column as a number; 0 for what is none.
    func real(_ column: Int32) -> Double { unsafe sqlite3_column_double(handle, column) }

    /// The column as text; nil for NULL.
    func text(_ column: Int32) -> String? {
        guard let start = unsafe sqlite3_column_text(handle, column) else { return nil }
        let count = Int(unsafe sqlite3_column_bytes(handle, column))
        return unsafe String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }

    /// The column's bytes; empty for NULL.
    func blob(_ column: Int32) -> [UInt8] {
        guard let start = unsafe sqlite3_column_blob(handle, column) else { return [] }
        let count = Int(unsafe sqlite3_column_bytes(handle, column))
        return unsafe Array(UnsafeRawBufferPointer(start: start, count: count))
    }

    private func error(_ status: Int32) -> SQLiteError {
        SQLiteError(code: status, message: unsafe String(cString: sqlite3_errmsg(connection)))
    }
}

/// A copy of a whole database in the making; both connections stay on this thread.
///
/// A read transaction on the source makes it a copy of one moment, whatever is written meanwhile.
@safe
final class SQLiteBackup {
    private let handle: OpaquePointer
    private let source: SQLiteConnection
    private let target: SQLiteConnection

    init(of source: SQLiteConnection, to target: SQLiteConnection) throws(SQLiteError) {
        guard let handle = unsafe sqlite3_backup_init(target.handle, "main", source.handle, "main") else {
            throw target.error(unsafe sqlite3_extended_errcode(target.handle))
        }
        unsafe self.handle = handle
        self.source = source
        self.target = target
    }

    // SAFETY: the connections are kept open as long as the copy is not finished.
    deinit { unsafe sqlite3_backup_finish(handle) }

    // SAFETY: for all calls below, the handle lives as long as self.

    /// Pages to copy in all, once one was copied.
    var pageCount: Int { Int(unsafe sqlite3_backup_pagecount(handle)) }
    /// Pages that are left.
    var remaining: Int { Int(unsafe sqlite3_backup_remaining(handle)) }

    /// Copies some pages; false when it was the last ones, and the copy is durable.
    func step(pages: Int32) throws(SQLiteError) -> Bool {
        switch unsafe sqlite3_backup_step(handle, pages) {
        case SQLITE_OK: return true
        case SQLITE_DONE: return false
        case let status:
            throw SQLiteError(code: status, message: unsafe String(cString: sqlite3_errstr(status)))
        }
    }
}

/// What is called now and then while statements run.
private final class Ticker {
    let tick: () -> Void
    init(_ tick: @escaping () -> Void) { self.tick = tick }
}

extension SQLiteConnection {
    /// Lets the calling thread rest.
    static func pause(milliseconds: Int32) { _ = sqlite3_sleep(milliseconds) }

    /// Runs statements that take long, and calls `tick` every `steps` steps of SQLite's machine.
    func execute(_ sql: String, every steps: Int32, _ tick: () -> Void) throws(SQLiteError) {
        let status = withoutActuallyEscaping(tick) { tick in
            let ticker = Ticker(tick)
            // SAFETY: the ticker lives to the end of this call, and so does the handler.
            return withExtendedLifetime(ticker) {
                unsafe sqlite3_progress_handler(
                    handle, steps,
                    { context in
                        if let context = unsafe context {
                            unsafe Unmanaged<Ticker>.fromOpaque(context).takeUnretainedValue().tick()
                        }
                        return 0
                    }, Unmanaged.passUnretained(ticker).toOpaque())
                defer { unsafe sqlite3_progress_handler(handle, 0, nil, nil) }
                return unsafe sqlite3_exec(handle, sql, nil, nil, nil)
            }
        }
        guard status == SQLITE_OK else { throw error(status) }
    }
}
