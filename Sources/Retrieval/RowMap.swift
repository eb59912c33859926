/// Row → small number for one request: open addressing that forgets everything at once.
///
/// A slot is valid while its stamp is the present generation, so that a new request costs one increment.
struct RowMap {
    private var rows: [UInt32]
    private var values: [Int32]
    private var stamps: [UInt32]
    private var generation: UInt32 = 1
    private(set) var count = 0

    init(capacity: Int) {
        var size = 1024
        while size < capacity * 2 { size *= 2 }
        rows = [UInt32](repeating: 0, count: size)
        values = [Int32](repeating: 0, count: size)
        stamps = [UInt32](repeating: 0, count: size)
    }

    mutating func removeAll() {
        count = 0
        generation &+= 1
        guard generation == 0 else { return }
        // After 2³² requests the stamps of the first would look new.
        for i in stamps.indices { stamps[i] = 0 }
        generation = 1
    }

    subscript(row: UInt32) -> Int32? {
        let slot = find(row)
        return stamps[slot] == generation ? values[slot] : nil
    }

    mutating func set(_ row: UInt32, _ value: Int32) {
        var slot = find(row)
        if stamps[slot] != generation {
            if (count + 1) * 2 > rows.count {
                grow()
                slot = find(row)
            }
            rows[slot] = row
            stamps[slot] = generation
            count += 1
        }
        values[slot] = value
    }

    private func find(_ row: UInt32) -> Int {
        // Fibonacci hashing: neighbouring rows land far apart.
        let mask = rows.count - 1
        var slot = Int(truncatingIfNeeded: (UInt64(row) &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
        while stamps[slot] == generation, rows[slot] != row { slot = (slot + 1) & mask }
        return slot
    }

    private mutating func grow() {
        let old = self
        self = RowMap(capacity: rows.count)
        for slot in old.rows.indices where old.stamps[slot] == old.generation { set(old.rows[slot], old.values[slot]) }
    }
}
