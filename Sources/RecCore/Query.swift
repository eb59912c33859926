/// What one request asks of the models, with every id resolved to a row: the input of retrieval and ranking.
public struct Query: Sendable {
    /// Whose history it is, as the caller names the user; nil when it is nobody's to keep.
    public var userID: String?
    /// Row of a known user, else nil.
    public var userRow: Int?
    /// Known events, oldest first; the request's `session` is already at the end.
    public var history: [HistoryEvent]
    /// Known events left out before `history[0]`; with `history.count` it places the model's window.
    public var historyOffset: Int
    /// Events at the end of `history` that belong to this request alone.
    public var sessionCount = 0
    /// Time of the question in Unix seconds.
    public var now: Double
    /// Request features over the user's stored ones.
    public var userFeatures: FeatureValues
    /// Features of the situation.
    public var contextFeatures: FeatureValues

    /// A query at `now`; all else is empty unless given.
    public init(
        userRow: Int? = nil, history: [HistoryEvent] = [], historyOffset: Int = 0, now: Double,
        userFeatures: FeatureValues = [:], contextFeatures: FeatureValues = [:]
    ) {
        self.userRow = userRow
        self.history = history
        self.historyOffset = historyOffset
        self.now = now
        self.userFeatures = userFeatures
        self.contextFeatures = contextFeatures
    }
}
