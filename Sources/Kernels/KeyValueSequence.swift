internal import CKernels

extension KeyValueBlock {
    /// Blocks that hold `events` events.
    public static func count(events count: Int) -> Int { (count + events - 1) / events }

    @unsafe var base: UnsafeMutablePointer<Float> { unsafe storage.base }
}

/// The blocks of one history in order, as attention reads them; for one thread, whatever else reads the
/// blocks.
@safe public final class KeyValueSequence {
    /// The shape of every block.
    public let layout: KeyValueLayout
    /// Block b holds the events from 16·b on.
    public private(set) var blocks: [KeyValueBlock] = []
    /// Where each block's floats begin; `blocks` keeps them alive.
    private var bases: [UnsafePointer<Float>?] = unsafe []

    /// No blocks yet, and room for `capacity` of them without an allocation.
    public init(_ layout: KeyValueLayout, capacity: Int) {
        self.layout = layout
        blocks.reserveCapacity(capacity)
        unsafe bases.reserveCapacity(capacity)
    }

    /// Replaces block `index`, or adds it at the end; traps when it has another layout or leaves a gap.
    public func set(_ index: Int, to block: KeyValueBlock) {
        precondition(block.layout == layout, "a block of another layout")
        precondition(index >= 0 && index <= blocks.count, "block \(index) after \(blocks.count)")
        if index == blocks.count {
            blocks.append(block)
            unsafe bases.append(UnsafePointer(block.base))
        } else {
            blocks[index] = block
            unsafe bases[index] = unsafe UnsafePointer(block.base)
        }
    }

    /// Lets go of all blocks but the first `count`.
    public func truncate(to count: Int) {
        guard count < blocks.count else { return }
        blocks.removeLast(blocks.count - count)
        unsafe bases.removeLast(bases.count - count)
    }

    /// Writes one layer and head of consecutive events, the first of them `event`: `keys` [m, dqk] and
    /// `values` [m, dv].
    ///
    /// The blocks written to must be this thread's own.
    public func store(layer: Int, head: Int, at event: Int, keys: MatrixView, values: MatrixView) {
        precondition(
            keys.rows == values.rows && keys.columns == layout.keyDimension
                && values.columns == layout.valueDimension, "shape of keys or values")
        precondition(
            event >= 0 && event + keys.rows <= blocks.count * KeyValueBlock.events,
            "events \(event)+\(keys.rows) in \(blocks.count) blocks")
        precondition(
            (0..<layout.layers).contains(layer) && (0..<layout.heads).contains(head), "layer or head")
        let lanes = KeyValueBlock.events
        var row = 0
        while row < keys.rows {
            let slot = (event + row) % lanes
            let count = min(lanes - slot, keys.rows - row)
            let block = blocks[(event + row) / lanes]
            // SAFETY: slot + count ≤ 16, and the layout's offsets lie within the block.
            let key = unsafe block.base + layout.keyOffset(layer: layer, head: head) + slot
            let value =
                unsafe block.base + layout.valueOffset(layer: layer, head: head) + slot
                * layout.valueDimension
            for i in 0..<count {
                let source = unsafe keys.pointer(row: row + i)
                for k in 0..<layout.keyDimension { unsafe key[k * lanes + i] = source[k] }
                unsafe (value + i * layout.valueDimension).update(
                    from: values.pointer(row: row + i), count: layout.valueDimension)
            }
            row += count
        }
    }

    func withBlocks(layer: Int, head: Int, _ body: (CKernels_blocks) -> Void) {
        precondition(
            (0..<layout.layers).contains(layer) && (0..<layout.heads).contains(head), "layer or head")
        unsafe bases.withUnsafeBufferPointer { buffer in
            // SAFETY: the pointers are valid for this call, and `self` keeps the blocks alive to its end.
            unsafe body(
                CKernels_blocks(
                    base: buffer.baseAddress, keys: layout.keyOffset(layer: layer, head: head),
                    values: layout.valueOffset(layer: layer, head: head), key_width: layout.keyDimension,
                    value_width: layout.valueDimension))
        }
        withExtendedLifetime(self) {}
    }
}
