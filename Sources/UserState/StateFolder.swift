// UNSAFE ALLOWED: makes and locks a folder.
internal import Glibc

/// The folder of the user state, held by one process at a time.
final class StateFolder: Sendable {
    /// The database file; SQLite keeps its log beside it.
    let database: String
    /// The folder itself.
    let path: String
    private let descriptor: Int32

    /// Makes the folder at `path` where it is missing and locks it as long as the object lives.
    /// - Parameter inheritedLock: the lock's descriptor, where the process that has the folder has left it to
    ///   this one: both hold the lock then, and nobody else.
    /// - Throws: `.unusable` also when another process has it.
    init(_ path: String, inheritedLock: Int32? = nil) throws(UserStateError) {
        // Only the owner may read what users did.
        if unsafe mkdir(path, 0o700) == 0 {
            _ = Self.sync(path + "/..")
        } else if errno != EEXIST {
            throw Self.unusable(path)
        }
        var descriptor = unsafe open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Self.unusable(path) }
        if let inheritedLock, Self.isSameFile(inheritedLock, descriptor) {
            close(descriptor)
            descriptor = inheritedLock
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let isTaken = errno == EWOULDBLOCK
            let error = Self.unusable(path)
            close(descriptor)
            throw isTaken ? .unusable(path: path, reason: "another process has it open") : error
        }
        self.descriptor = descriptor
        self.path = path
        database = path + "/state.db"
    }

    // The lock goes with the descriptor.
    deinit { close(descriptor) }

    /// The lock's descriptor, for a process that goes on in this one's place.
    var lock: Int32 { descriptor }

    private static func isSameFile(_ one: Int32, _ other: Int32) -> Bool {
        var (first, second) = (stat(), stat())
        // SAFETY: both are alive during the calls.
        return unsafe fstat(one, &first) == 0 && fstat(other, &second) == 0
            && first.st_dev == second.st_dev && first.st_ino == second.st_ino
    }

    /// Bytes of the database and of its log.
    var byteCounts: (database: Int, log: Int) {
        (Self.byteCount(database), Self.byteCount(database + "-wal"))
    }

    /// What SQLite will not use of the log.
    var logLoss: StateLogLoss {
        let path = database + "-wal"
        let size = Self.byteCount(path)
        guard size > 0 else { return StateLogLoss() }
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { return StateLogLoss() }
        defer { close(descriptor) }
        return StateLog.loss(size: size) { offset, count in
            unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
                // SAFETY: at most `count` bytes are written, the size of the buffer.
                filled = max(unsafe pread(descriptor, buffer.baseAddress, count, off_t(offset)), 0)
            }
        }
    }

    /// Makes a file, or the names in a folder, durable; false where the file system does not.
    private static func sync(_ path: String) -> Bool {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return fsync(descriptor) == 0
    }

    private static func byteCount(_ path: String) -> Int {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Int(status.st_size) : 0
    }

    fileprivate static func unusable(_ path: String) -> UserStateError {
        .unusable(path: path, reason: unsafe String(cString: strerror(errno)))
    }
}

// MARK: - Folders in the making

extension StateFolder {
    /// What SQLite keeps beside a database file; without content once it is closed.
    private static let companions = ["-wal", "-shm", "-journal"]

    /// Makes an empty folder beside the one that is to be.
    /// - Throws: `.unusable` also when there is something at `target`.
    static func makePartial(of target: String) throws(UserStateError) -> String {
        var status = stat()
        guard unsafe lstat(target, &status) != 0 else {
            throw .unusable(path: target, reason: "is there already")
        }
        let partial = target + ".partial"
        // One may be left by a process that was killed.
        remove(partial: partial)
        guard unsafe mkdir(partial, 0o700) == 0 else { throw unusable(partial) }
        return partial
    }

    /// Makes what is in the folder durable and gives it its name.
    static func finish(partial: String, as target: String) throws(UserStateError) {
        for companion in companions { _ = unsafe unlink(partial + "/state.db" + companion) }
        for path in [partial + "/state.db", partial] {
            guard sync(path) else { throw unusable(path) }
        }
        guard unsafe rename(partial, target) == 0 else { throw unusable(target) }
        let parent = target.lastIndex(of: "/").map { $0 == target.startIndex ? "/" : String(target[..<$0]) }
        guard sync(parent ?? ".") else { throw unusable(target) }
    }

    /// Takes a folder in the making away again.
    static func remove(partial: String) {
        for companion in [""] + companions { _ = unsafe unlink(partial + "/state.db" + companion) }
        _ = unsafe rmdir(partial)
    }

    /// Bytes that may still be written where `path` is; nil when that is unknown.
    static func freeBytes(at path: String) -> Int? {
        var status = statvfs()
        guard unsafe statvfs(path, &status) == 0 else { return nil }
        let (bytes, overflow) = status.f_bavail.multipliedReportingOverflow(by: status.f_frsize)
        return overflow ? nil : Int(clamping: bytes)
    }
}
