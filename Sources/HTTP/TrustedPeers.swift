/// The addresses from a.b.c.d to e.f.g.h that share their first bits (RFC 4632).
public struct AddressRange: Hashable, Sendable {
    private let first: NetworkAddress
    /// Of the 128 bits of an IPv6 or mapped address.
    private let prefix: Int

    /// `address/bits`, or one address; nil for anything else, also where bits behind the prefix are set.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ NetworkAddress($0) }) else { return nil }
        // An IPv6 text may be a mapped address, whose prefix is counted in IPv6.
        let width = parts[0].utf8.contains(ASCII.colon) ? 128 : 32
        var bits = width
        if parts.count == 2 {
            guard let number = Int(parts[1]), 0...width ~= number, String(number) == parts[1] else {
                return nil
            }
            bits = number
        }
        first = address
        prefix = 128 - width + bits
        guard address.masked(to: prefix) == address else { return nil }
    }

    func contains(_ address: NetworkAddress) -> Bool { address.masked(to: prefix) == first }
}

extension NetworkAddress {
    /// The address with only its first `bits`.
    func masked(to bits: Int) -> NetworkAddress {
        // A shift by 64 or more gives 0.
        NetworkAddress(high: high & ~(UInt64.max >> bits), low: low & ~(UInt64.max >> max(0, bits - 64)))
    }

    /// Whose connections are counted together: one IPv4 address, or one IPv6 network of 64 bits, which is
    /// what one customer has.
    public var countingGroup: NetworkAddress { ipv4 == nil ? masked(to: 64) : self }
}

/// Proxies that may say for whom they speak.
public struct TrustedPeers: Hashable, Sendable {
    /// Where they connect from.
    public var ranges: [AddressRange]
    /// Whether those who connect to a Unix socket are among them.
    public var includesUnix: Bool

    /// Nobody unless said otherwise.
    public init(ranges: [AddressRange] = [], includesUnix: Bool = false) {
        self.ranges = ranges
        self.includesUnix = includesUnix
    }

    /// Whether a peer is listed; nil is a Unix socket.
    func contains(_ address: NetworkAddress?) -> Bool {
        guard let address else { return includesUnix }
        return ranges.contains { $0.contains(address) }
    }

    /// The address that a listed proxy speaks for by `X-Forwarded-For`: the last one that is no listed proxy
    /// itself, or the first when all are. Nil when that is no address.
    func client(forwardedFor values: [String]) -> NetworkAddress? {
        var client: NetworkAddress?
        for value in values.reversed() {
            for entry in value.split(separator: ",", omittingEmptySubsequences: false).reversed() {
                guard let address = NetworkAddress(Self.trimmed(entry)) else { return nil }
                client = address
                guard contains(address) else { return client }
            }
        }
        return client
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text
        while let first = text.utf8.first, first == ASCII.space || first == ASCII.tab { text.removeFirst() }
        while let last = text.utf8.last, last == ASCII.space || last == ASCII.tab { text.removeLast() }
        return text
    }
}
