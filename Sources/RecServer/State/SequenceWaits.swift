import Synchronization
import UserState

/// Read-your-writes: holds a request back until reads see what its token stands for.
final class SequenceWaits: Sendable {
    /// Threads that may wait at once. One less than there are: what is waited for may itself need one, so a
    /// single thread never waits.
    let maximum: Int
    private let waiting = Atomic<Int>(0)

    init(threads: Int) { maximum = max(0, threads - 1) }

    /// Returns once `token` is reached, within the monotonic `deadline` in nanoseconds.
    /// - Throws: `.sequenceNotReached`; `.outOfRange` for the token of another user.
    func wait(
        for token: SequenceToken, user: String?, in states: UserStates?, until deadline: UInt64
    ) throws(Problem) {
        guard let states else { throw Problem(.sequenceNotReached, "this server keeps no user state") }
        guard token.epoch == states.epoch else {
            throw Problem(.sequenceNotReached, "min_sequence is of another store")
        }
        guard token.isOf(user: user) else {
            throw Problem(
                .outOfRange, errors: [.init(pointer: "/min_sequence", detail: "is of another user")])
        }
        func isReached() -> Bool { Self.isReached(token, user, states) }
        if isReached() { return }
        let place = waiting.add(1, ordering: .relaxed).newValue
        defer { waiting.subtract(1, ordering: .relaxed) }
        guard place <= maximum else {
            throw Problem(.sequenceNotReached, "no more requests may wait for it now")
        }
        guard states.wait(until: deadline, for: isReached) else {
            throw Problem(.sequenceNotReached, "not within the deadline")
        }
    }

    private static func isReached(_ token: SequenceToken, _ user: String?, _ states: UserStates) -> Bool {
        switch token.place {
        case .commit(let commit): return states.commit >= commit
        case .sequence(let sequence, _):
            guard let user else { return false }
            do throws(UserStateError) {
                return try states.user(user)?.sequence ?? 0 >= sequence
            } catch {
                return false
            }
        }
    }
}
