import Synchronization

/// Whether anyone still waits, on a connection of HTTP/1 or a stream of HTTP/2; shared by the loop and the
/// threads that work for it.
final class Presence: Sendable {
    private let gone = Atomic<Bool>(false)
    var isGone: Bool { gone.load(ordering: .relaxed) }
    func leave() { gone.store(true, ordering: .relaxed) }
}
