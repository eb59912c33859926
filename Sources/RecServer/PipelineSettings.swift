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
    /// Events of one request.
    let eventsMax: Int
    /// Whether events of items that the catalogue does not have are kept.
    let keepsUnknownItems: Bool
    /// Instruction set of the element-wise kernels.
    let kernelLevel: String

    init(_ configuration: Configuration) {
        deadlineMilliseconds = configuration.integer("deadline_ms")
        candidatesMax = configuration.integer("candidates_max")
        probesMax = configuration.integer("probes_max")
        shortlistFactorMax = configuration.integer("shortlist_factor_max")
        microbatch = configuration.integer("microbatch")
        batchMax = configuration.integer("batch_max")
        eventsMax = configuration.integer("events_max")
        keepsUnknownItems = configuration.text("unknown_items") == "keep"
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
