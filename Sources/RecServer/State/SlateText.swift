/// Items as JSON, one behind the other.
struct SlateText: Sendable {
    private(set) var ids: [String] = []
    let scores: [Double]
    let breaks: [Int]
    private var bytes: [UInt8] = []
    private var ends: [Int] = []

    /// No items yet of those that have these scores.
    init(scores: [Double], breaks: [Int]) {
        self.scores = scores
        self.breaks = breaks
    }

    mutating func append(_ id: String, _ text: ArraySlice<UInt8>) {
        ids.append(id)
        bytes += text
        ends.append(bytes.count)
    }

    /// The object of the item at `place`.
    func item(_ place: Int) -> ArraySlice<UInt8> { bytes[(place == 0 ? 0 : ends[place - 1])..<ends[place]] }

    /// Bytes that it takes in memory; an id of more than 15 bytes is an allocation of its own.
    var byteCount: Int {
        bytes.count + 32 * ids.count + 8 * breaks.count
            + ids.reduce(0) { $0 + ($1.utf8.count > 15 ? $1.utf8.count + 33 : 0) }
    }
}
