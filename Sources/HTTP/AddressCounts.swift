import Threading

/// How many connections each address has now, over all loops: as many entries as there are connections at
/// most.
final class AddressCounts: Sendable {
    private let counts = Lock<[NetworkAddress: Int]>([:])

    /// Counts one more, or refuses when that would exceed `limit`.
    func admit(_ address: NetworkAddress, limit: Int) -> Bool {
        counts.withLock { counts in
            let count = counts[address.countingGroup, default: 0]
            guard count < limit else { return false }
            counts[address.countingGroup] = count + 1
            return true
        }
    }

    func leave(_ address: NetworkAddress) {
        counts.withLock { counts in
            let count = counts[address.countingGroup, default: 0]
            counts[address.countingGroup] = count > 1 ? count - 1 : nil
        }
    }

    /// Addresses that have a connection.
    var addressCount: Int { counts.withLock { $0.count } }
}
