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
}
