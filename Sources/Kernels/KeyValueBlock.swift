/// Shape of the keys and values that a history leaves in a sequence model.
public struct KeyValueLayout: Sendable, Hashable {
    /// Layers, each with keys and values of its own, ≥ 1.
    public let layers: Int
    /// Attention heads, ≥ 1.
    public let heads: Int
    /// Floats of one head's key.
    public let keyDimension: Int
    /// Floats of one head's value.
    public let valueDimension: Int

    /// The shape of a model's keys and values; traps unless all are ≥ 1.
    public init(layers: Int, heads: Int, keyDimension: Int, valueDimension: Int) {
        precondition(
            layers >= 1 && heads >= 1 && keyDimension >= 1 && valueDimension >= 1,
            "\(layers) layers, \(heads) heads, \(keyDimension) and \(valueDimension) floats")
        self.layers = layers
        self.heads = heads
        self.keyDimension = keyDimension
        self.valueDimension = valueDimension
    }

    /// Floats of one layer and head: keys [dqk, 16], a column per event, then values [16, dv].
    var headStride: Int { KeyValueBlock.events * (keyDimension + valueDimension) }

    /// Floats of one block.
    public var floatCount: Int { layers * heads * headStride }

    /// Bytes of one block's floats.
    public var byteCount: Int { floatCount * 4 }

    /// Where the keys of a layer and head begin, in floats.
    func keyOffset(layer: Int, head: Int) -> Int { (layer * heads + head) * headStride }

    /// Where the values of a layer and head begin, in floats.
    func valueOffset(layer: Int, head: Int) -> Int {
        keyOffset(layer: layer, head: head) + KeyValueBlock.events * keyDimension
    }
}

/// The keys and values of sixteen consecutive events of one history, in every layer.
///
/// Written by the one thread that made it; once other threads can see it, it is frozen.
@safe public final class KeyValueBlock: @unchecked Sendable {
    // @unchecked Sendable: written only before it is shared, as said above.
    /// Events in a block.
    public static let events = 16

    /// The shape of all blocks of a model.
    public let layout: KeyValueLayout
    let storage: FloatStorage

    /// A block of zeros in memory of its own.
    public init(_ layout: KeyValueLayout) {
        self.layout = layout
        storage = FloatStorage(count: layout.floatCount)
    }

    /// A block of zeros in a pool's memory.
    init(_ loan: KeyValuePool.Loan) {
        layout = loan.pool.layout
        storage = FloatStorage(loan, count: layout.floatCount)
    }

    /// The pool that lent this block's memory; nil for memory of its own.
    public var pool: KeyValuePool? { storage.pool }

    /// Takes over everything `other` holds; both have one layout.
    public func copy(from other: KeyValueBlock) {
        precondition(layout == other.layout, "blocks of different layouts")
        unsafe storage.base.update(from: other.storage.base, count: layout.floatCount)
    }
}
