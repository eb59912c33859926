public import Artifacts
public import Kernels
public import RecCore

/// What one request wants from retrieval. The views must stay unchanged until the retriever has finished.
public struct RetrievalRequest {
    /// Query vector [1, dimension] of the user tower, or the mean of the query items.
    public var towerQuery: MatrixView?
    /// Last row of the sequence model [1, D].
    public var sequenceQuery: MatrixView?
    /// Rows of the user's events, oldest first: the last distinct ones seed the item-to-item source.
    public var recent: [Int] = []
    /// What every candidate must pass.
    public var filter: CompiledFilter?
    /// What the popular source goes by.
    public var popularity = Popularity()
    /// Rows never returned.
    public var excluded: [Int] = []
    /// Most candidates per source.
    public var quotas: SourceQuotas
    /// Size of the merged list.
    public var candidates: Int
    /// Results that must be there unless the catalogue has fewer: the page, or the slate behind it.
    public var minimum: Int
    /// Lists scanned and codes re-ranked per result.
    public var settings: SearchSettings

    /// A request with the bundle's own quotas and settings.
    public init(_ configuration: RetrievalConfiguration, minimum: Int) {
        quotas = configuration.quotas
        candidates = configuration.candidates
        self.minimum = minimum
        settings = SearchSettings(
            probes: configuration.index.probes, shortlistFactor: configuration.shortlistFactor)
    }
}

/// What retrieval found.
public struct RetrievalResult: Sendable {
    /// Best rank in any source first, then by retrieval score, ties by row.
    public var candidates: [Candidate]
    /// Whether the whole catalogue has fewer matching items than the request's minimum.
    public var isShort: Bool
    /// Excluded rows that a source offered.
    public var excludedCount: Int
    /// Rows that a source offered and the filter refuses.
    public var filteredCount: Int
    /// Whether the sources starved and the matching rows were scanned.
    public var isScanned: Bool
}
