import RecCore
import Threading
import UserState

/// What is popular by users' events, and its way into the versions that answer.
///
/// Counts are by item id: a switch of versions keeps them. They are in memory alone and are made from what is
/// kept when the daemon starts. All calls from any thread; none is on a request's path.
final class EventPopularity: Sendable {
    /// Longest value of a feature that is counted, in bytes.
    private static let valueBytesMaximum = 128

    private let counter: Lock<PopularityCounter>
    /// The user feature whose values are counted.
    private let feature: String?

    /// Nothing counted; nil where events are not to count.
    init?(_ settings: PipelineSettings) {
        guard let halfLife = settings.popularityHalfLife else { return nil }
        counter = Lock(PopularityCounter(halfLife: halfLife))
        feature = settings.popularityBy
    }

    /// Items that events have made more popular.
    var itemCount: Int { counter.withLock { $0.itemCount } }

    /// Counts events of one user, or no longer.
    ///
    /// Those that came with the bundle are in its popularity already.
    /// - Parameter features: the user's, as kept and as the bundle has them.
    func count(_ events: some Sequence<StoredEvent>, features: FeatureValues, isRemoval: Bool = false) {
        let now = Double(WallClock.nanoseconds) / 1e9
        var value = feature.flatMap { CountedPopularity.value(features[$0]) }
        if value?.utf8.count ?? 0 > Self.valueBytesMaximum { value = nil }
        counter.withLock { counter in
            for event in events where !event.isOfBundle {
                counter.count(event.itemID, at: event.time, value: value, now: now, isRemoval: isRemoval)
            }
        }
    }

    /// Gives a version its items' popularity as of now.
    func publish(to bundle: LoadedBundle) {
        let counter = counter.withLock { $0 }
        let popularity = CountedPopularity(
            counter, bundle.snapshot.catalog, now: Double(WallClock.nanoseconds) / 1e9)
        bundle.popularity.withLock { $0 = popularity }
    }
}

extension StoredEvent {
    private static let bundlePrefix = "bundle-"

    /// The id of the event with this number in a bundle's history.
    static func bundleID(_ number: Int) -> String { bundlePrefix + "\(number)" }

    /// Whether the event came with a bundle.
    var isOfBundle: Bool { eventID.hasPrefix(Self.bundlePrefix) }
}
