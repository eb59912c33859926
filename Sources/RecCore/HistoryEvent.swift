/// One event of a user's history whose item the catalogue knows.
public struct HistoryEvent: Sendable, Equatable {
    /// Catalogue row of the item.
    public var row: Int
    /// Index into the sequence model's action names; 0 is `unknown`.
    public var action: Int
    /// Unix seconds; nil when the caller gave none.
    public var time: Double?

    /// An event of unknown action and time unless given.
    public init(row: Int, action: Int = 0, time: Double? = nil) {
        self.row = row
        self.action = action
        self.time = time
    }
}
