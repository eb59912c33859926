import Synchronization

/// Whether another process writes to the same folder.
final class Sharing: Sendable {
    private let shared: Atomic<Bool>

    init(isShared: Bool) { shared = Atomic(isShared) }

    var isShared: Bool { shared.load(ordering: .acquiring) }
    func begin() { shared.store(true, ordering: .releasing) }
    func end() { shared.store(false, ordering: .releasing) }
}
