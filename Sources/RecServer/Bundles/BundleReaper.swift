import Logging
import Threading

/// Frees versions that are no longer used, on a thread of its own that gives way to everything else: freeing
/// gigabytes takes time, which no request should pay, least of all the first ones on a new version.
final class BundleReaper: Sendable {
    /// A version on its way out.
    struct Draining: Sendable {
        let modelVersion: String
        let digest: String
        let path: String
        let byteCount: Int
        let since: Int64
    }

    /// More than can ever be retired and not freed, since a load waits for the reaper.
    private static let queueMaximum = 64
    /// How often the last requests of a version are waited for.
    private static let pause = Duration.milliseconds(2)

    private let queue: BoundedQueue<LoadedBundle>
    private let waiting: Lock<[Draining]>
    private let closing = Latch(count: 1)
    private let thread: NamedThread

    /// - Parameter slates: which may hold on to versions.
    init(slates: Slates, logger: Logger) throws(ThreadingError) {
        let queue = BoundedQueue<LoadedBundle>(capacity: Self.queueMaximum)
        let waiting = Lock<[Draining]>([])
        let closing = closing
        thread = try NamedThread(name: "reaper") {
            ThreadPriority.lower()
            while let digest = Self.freeNext(queue, slates, closing) {
                // Before the list is shortened: whoever waits for that wants the memory.
                ProcessMemory.trim()
                // Not in place: a scrape may have the list, and the thread sanitizer does not see that it
                // has let go of it.
                waiting.withLock { $0 = $0.filter { $0.digest != digest } }
                logger.info("a version was freed", metadata: ["sha256": "\(digest)"])
            }
        }
        self.queue = queue
        self.waiting = waiting
    }

    /// Waits until the next version is ours alone and frees it; its digest, or nil once the reaper is closed.
    private static func freeNext(
        _ queue: BoundedQueue<LoadedBundle>, _ slates: Slates, _ closing: Latch
    ) -> String? {
        var bundle = queue.take()
        guard let digest = bundle?.digest, let version = (bundle?.snapshot).map(ObjectIdentifier.init) else {
            return nil
        }
        if let snapshot = bundle?.snapshot { slates.turn(from: snapshot) }
        while !isKnownUniquelyReferenced(&bundle) {
            if closing.wait(within: pause) { return nil }
        }
        // A probe or a scrape may be reading the snapshot by itself.
        var snapshot = bundle?.snapshot
        bundle = nil
        while !isKnownUniquelyReferenced(&snapshot) {
            if closing.wait(within: pause) { return nil }
        }
        slates.forget(version)
        return digest
    }

    /// Versions whose memory is not free yet.
    var draining: [Draining] { waiting.withLock { $0 } }

    /// Takes over a version that the registry has let go of; never waits.
    func retire(_ bundle: LoadedBundle) {
        let draining = Draining(
            modelVersion: bundle.modelVersion, digest: bundle.digest, path: bundle.path,
            byteCount: bundle.byteCount, since: WallClock.nanoseconds)
        waiting.withLock { $0 = $0 + [draining] }
        _ = queue.offer(bundle)
    }

    /// Waits until everything retired is freed; false when the reaper was closed first.
    func waitUntilFree() -> Bool {
        while !waiting.withLock({ $0.isEmpty }) {
            if closing.wait(within: Self.pause) { return false }
        }
        return true
    }

    /// Ends the thread without waiting for requests; what is not free then goes with the process.
    func stop() {
        closing.countDown()
        queue.close()
        thread.join()
    }
}
