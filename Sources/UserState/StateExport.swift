internal import RecCore
public import Threading

/// Writes what is held of all users, or of one, as lines of JSON.
///
/// One moment of the state, also while a daemon changes it; memory for one user at a time.
public struct StateExport {
    /// How much was written.
    public struct Counts: Sendable, Equatable {
        /// Users.
        public var users = 0
        /// Events.
        public var events = 0
    }

    private let snapshot: StateSnapshot

    /// The state in `folder` as it is now.
    /// - Throws: `.unusable` when the folder holds no state.
    public init(folder: String) throws(UserStateError) { snapshot = try StateSnapshot(folder: folder) }

    /// Users by their ids, each followed by its events, oldest first: the same state gives the same bytes.
    /// - Parameters:
    ///   - user: the one user to write; nil for all.
    ///   - progress: told users done and to do.
    public func run(
        user: String?, to output: OutputFile, progress: (_ done: Int, _ total: Int) -> Void
    ) throws(UserStateError) -> Counts {
        try UserStateError.of(snapshot.path) {
            var counts = Counts()
            let total = user == nil ? try snapshot.userCount() : 1
            try snapshot.forEachUser(only: user) { key, user in
                try output.write(StateRecord.user(user).line)
                for event in try snapshot.reader.events(key) {
                    try output.write(StateRecord.event(user: user.id, event).line)
                    counts.events += 1
                }
                counts.users += 1
                progress(counts.users, total)
            }
            try output.finish()
            return counts
        }
    }
}
