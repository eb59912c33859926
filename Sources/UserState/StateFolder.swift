// UNSAFE ALLOWED: makes and locks a folder.
internal import Glibc

/// The folder of the user state, held by one process at a time.
final class StateFolder: Sendable {
    /// The database file; SQLite keeps its log beside it.
    let database: String
    private let descriptor: Int32

    /// Makes the folder at `path` where it is missing and locks it as long as the object lives.
    /// - Throws: `.unusable` also when another process has it.
    init(_ path: String) throws(UserStateError) {
        // Only the owner may read what users did.
        if unsafe mkdir(path, 0o700) == 0 {
            Self.sync(path + "/..")
        } else if errno != EEXIST {
            throw Self.unusable(path)
        }
        let descriptor = unsafe open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Self.unusable(path) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let isTaken = errno == EWOULDBLOCK
            let error = Self.unusable(path)
            close(descriptor)
            throw isTaken ? .unusable(path: path, reason: "another process has it open") : error
        }
        self.descriptor = descriptor
        database = path + "/state.db"
    }

    // The lock goes with the descriptor.
    deinit { close(descriptor) }

    /// Bytes of the database and of its log.
    var byteCounts: (database: Int, log: Int) {
        (Self.byteCount(database), Self.byteCount(database + "-wal"))
    }

    /// Makes the names in a folder durable, where the file system can.
    private static func sync(_ path: String) {
        let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    private static func byteCount(_ path: String) -> Int {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Int(status.st_size) : 0
    }

    private static func unusable(_ path: String) -> UserStateError {
        .unusable(path: path, reason: unsafe String(cString: strerror(errno)))
    }
}
