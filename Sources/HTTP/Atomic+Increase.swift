import Synchronization

extension Atomic<Int> {
    /// Adds without a locked instruction: for counters with one writer.
    func increase(by amount: Int = 1) { store(load(ordering: .relaxed) &+ amount, ordering: .relaxed) }
}
