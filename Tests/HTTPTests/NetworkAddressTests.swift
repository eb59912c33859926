import TestSupport
import Testing

@testable import HTTP

struct NetworkAddressTests {
    @Test(
        arguments: [
            (0, 0xFFFF_0102_0304, "1.2.3.4"), (0, 0xFFFF_FFFF_FFFF, "255.255.255.255"), (0, 0, "::"),
            (0, 1, "::1"), (0x2001_0DB8_0000_0000, 1, "2001:db8::1"),
            (0x2001_0DB8_0000_0000, 0x0001_0000_0000_0001, "2001:db8::1:0:0:1"),
            (0x2001_0DB8_0000_0001, 0x0001_0001_0001_0001, "2001:db8:0:1:1:1:1:1"),
            (0x0001_0002_0003_0004, 0x0005_0006_0007_0000, "1:2:3:4:5:6:7:0"),
            (0x0001_0000_0000_0000, 0, "1::"),
        ] as [(UInt64, UInt64, String)])
    func `addresses are written the one right way`(high: UInt64, low: UInt64, text: String) {
        #expect(NetworkAddress(high: high, low: low).description == text)
    }

    @Test(arguments: [
        ("1.2.3.4", "1.2.3.4"), ("0.0.0.0", "0.0.0.0"), ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::FFFF:0102:0304", "1.2.3.4"), ("::", "::"), ("::1", "::1"), ("1::", "1::"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("fe80::1", "fe80::1"),
    ])
    func `addresses are read in every way they may be written`(text: String, address: String) {
        #expect(NetworkAddress(text)?.description == address)
    }

    @Test(arguments: [
        "", "1", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "01.2.3.4", "1.2.3.256", "1.2.3.4 ",
        "1.2.3.4:80", "0x1.2.3.4", "1.2.3.-4", "localhost", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:8::", "1::2::3", "::12345", "::g", "[::1]", "::1%lo", "1:2:3:4:5:6:7:1.2.3.4",
        "::1.2.3.4:5", ":1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:", "1.2.3.4::", "unknown", "_hidden",
        "١.٢.٣.٤", "::ffff:1.2.3.4.5",
    ])
    func `what is no address is none`(text: String) { #expect(NetworkAddress(text) == nil) }

    @Test func `every address is read as it is written`() {
        var random = SeededRandom(7)
        for _ in 0..<2_000 {
            func sparse() -> UInt64 {
                UInt64.random(in: 0...UInt64.max, using: &random)
                    & (0xFFFF << (16 * UInt64.random(in: 0...4, using: &random)))
            }
            for address in [
                NetworkAddress(high: sparse(), low: sparse()),
                NetworkAddress(ipv4: UInt32.random(in: 0...UInt32.max, using: &random)),
            ] {
                #expect(NetworkAddress(address.description) == address)
            }
        }
    }

    @Test(arguments: [
        ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true), ("0.0.0.0/0", "1.2.3.4", true), ("0.0.0.0/0", "::1", false),
        ("::/0", "1.2.3.4", true), ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true), ("2001:db8::/32", "2001:db9::1", false),
        ("2001:db8::/65", "2001:db8::7fff:0:0:1", true), ("2001:db8::/65", "2001:db8::8000:0:0:1", false),
        ("::1", "::1", true), ("::1/128", "::", false),
    ])
    func `a range has the addresses that share its prefix`(range: String, address: String, isIn: Bool) throws
    {
        let address = try #require(NetworkAddress(address))
        #expect(try #require(AddressRange(range)).contains(address) == isIn)
    }

    @Test(arguments: [
        "", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.1/8",
        "::1/129", "::1/64", "10.0.0.0/8/8", "a/8",
    ])
    func `what is no range is none`(text: String) { #expect(AddressRange(text) == nil) }

    @Test(
        arguments: [
            (["203.0.113.9"], "203.0.113.9"), (["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (["203.0.113.9, 10.1.1.1"], "203.0.113.9"),
            (["203.0.113.9", "10.1.1.1 ,\t10.2.2.2"], "203.0.113.9"),
            (["10.9.9.9, 10.1.1.1"], "10.9.9.9"), (["2001:db8::5,10.0.0.1"], "2001:db8::5"),
            (["garbage, 203.0.113.9"], "203.0.113.9"), (["203.0.113.9, garbage"], nil),
            (["203.0.113.9, garbage, 10.0.0.1"], nil), (["203.0.113.9,"], nil), ([""], nil),
            (["127.0.0.1"], "127.0.0.1"), (["203.0.113.9:80"], nil), (["unknown"], nil),
        ] as [([String], String?)])
    func `the last address that is no listed proxy is the client`(values: [String], client: String?) throws {
        let trusted = TrustedPeers(ranges: [try #require(AddressRange("10.0.0.0/8"))])
        #expect(trusted.client(forwardedFor: values)?.description == client)
    }

    @Test func `connections are counted by address and by IPv6 network, and no entry stays`() throws {
        let counts = AddressCounts()
        let first = try #require(NetworkAddress("2001:db8::1"))
        let second = try #require(NetworkAddress("2001:db8::2:0:0:1"))
        let other = try #require(NetworkAddress("2001:db8:0:1::1"))
        #expect(counts.admit(first, limit: 2) && counts.admit(second, limit: 2))
        #expect(!counts.admit(first, limit: 2))
        #expect(counts.admit(other, limit: 2))
        #expect(counts.addressCount == 2)
        for address in [first, second, other] { counts.leave(address) }
        #expect(counts.addressCount == 0)
    }
}
