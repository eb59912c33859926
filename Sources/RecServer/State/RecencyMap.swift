/// A dictionary that knows the order in which its entries were used last; every operation takes constant
/// time.
struct RecencyMap<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private struct Slot: Sendable {
        var entry: (key: Key, value: Value)?
        /// Slots used just after and just before; −1 at the ends.
        var newer: Int
        var older: Int
    }

    private var slots: [Slot] = []
    private var free: [Int] = []
    private var slotOf: [Key: Int] = [:]
    private var newest = -1
    private var oldest = -1

    /// Entries.
    var count: Int { slotOf.count }

    /// The value of `key`, without using it.
    subscript(peek key: Key) -> Value? { slotOf[key].flatMap { slots[$0].entry?.value } }

    /// The value of `key`, which counts as used now.
    mutating func use(_ key: Key) -> Value? {
        guard let slot = slotOf[key] else { return nil }
        unlink(slot)
        link(slot)
        return slots[slot].entry?.value
    }

    /// Sets the value of `key`, which counts as used now; what was there before.
    @discardableResult
    mutating func set(_ key: Key, _ value: Value) -> Value? {
        if let slot = slotOf[key] {
            let old = slots[slot].entry?.value
            slots[slot].entry = (key, value)
            unlink(slot)
            link(slot)
            return old
        }
        let slot = free.popLast() ?? slots.count
        if slot == slots.count { slots.append(Slot(entry: nil, newer: -1, older: -1)) }
        slots[slot].entry = (key, value)
        slotOf[key] = slot
        link(slot)
        return nil
    }

    /// Changes the value of `key` where it stands.
    mutating func replace(_ key: Key, _ value: Value) {
        guard let slot = slotOf[key] else { return }
        slots[slot].entry = (key, value)
    }

    /// Takes `key` out.
    @discardableResult
    mutating func remove(_ key: Key) -> Value? {
        guard let slot = slotOf.removeValue(forKey: key) else { return nil }
        unlink(slot)
        let value = slots[slot].entry?.value
        slots[slot].entry = nil
        free.append(slot)
        return value
    }

    /// The entry that was used longest ago.
    var last: (key: Key, value: Value)? { oldest < 0 ? nil : slots[oldest].entry }

    /// All entries, those used last first.
    var entries: [(key: Key, value: Value)] {
        var entries: [(key: Key, value: Value)] = []
        var slot = newest
        while slot >= 0 {
            if let entry = slots[slot].entry { entries.append(entry) }
            slot = slots[slot].older
        }
        return entries
    }

    private mutating func link(_ slot: Int) {
        slots[slot].newer = -1
        slots[slot].older = newest
        if newest >= 0 { slots[newest].newer = slot }
        newest = slot
        if oldest < 0 { oldest = slot }
    }

    private mutating func unlink(_ slot: Int) {
        let (newer, older) = (slots[slot].newer, slots[slot].older)
        if newer >= 0 { slots[newer].older = older } else { newest = older }
        if older >= 0 { slots[older].newer = newer } else { oldest = newer }
    }
}
