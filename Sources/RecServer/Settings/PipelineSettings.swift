import Kernels
import Retrieval

/// The tunables that the request path reads, resolved once.
struct PipelineSettings: Sendable {
    let deadlineMilliseconds: Int
    let candidatesMax: Int
    let probesMax: Int
    let shortlistFactorMax: Int
    let microbatch: Int
    /// Lines of a batch.
    let batchMax: Int
    /// Items of a slate that cursors may continue; 0 when none is held.
    let slateItems: Int
    /// Events of one request.
    let eventsMax: Int
    /// Whether events of items that the catalogue does not have are kept.
    let keepsUnknownItems: Bool
    /// Half-life of what events add to popularity, in seconds; nil where they add nothing.
    let popularityHalfLife: Double?
    /// The user feature by whose values popularity is counted besides.
    let popularityBy: String?
    /// Nanoseconds after a request in which new events of its user are encoded ahead; 0 for never.
    let eagerNanoseconds: UInt64
    /// Instruction set of the element-wise kernels.
    let kernelLevel: String

    init(_ configuration: Configuration) {
        deadlineMilliseconds = configuration.integer("deadline_ms")
        candidatesMax = configuration.integer("candidates_max")
        probesMax = configuration.integer("probes_max")
        shortlistFactorMax = configuration.integer("shortlist_factor_max")
        microbatch = configuration.integer("microbatch")
        batchMax = configuration.integer("batch_max")
        slateItems = configuration.integer("cursor_bytes") > 0 ? Slates.itemsMaximum : 0
        eventsMax = configuration.integer("events_max")
        keepsUnknownItems = configuration.text("unknown_items") == "keep"
        let halfLife = configuration.integer("popularity_half_life_s")
        popularityHalfLife = halfLife > 0 ? Double(halfLife) : nil
        let feature = configuration.text("popularity_by")
        popularityBy = feature.isEmpty ? nil : feature
        eagerNanoseconds = UInt64(configuration.integer("eager_s")) * 1_000_000_000
        kernelLevel = "\(Kernel.level)"
    }

    /// `wanted` within the server's caps.
    func capped(_ wanted: SearchSettings) -> SearchSettings {
        var settings = wanted
        settings.probes = min(settings.probes, probesMax)
        settings.shortlistFactor = min(settings.shortlistFactor, shortlistFactorMax)
        return settings
    }
}
