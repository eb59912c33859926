import Testing

@testable import Artifacts

@Suite struct MessageCodeTests {
    @Test func `codes are those of RFC 4231`() {
        let first = MessageCode(key: [UInt8](repeating: 0x0B, count: 20))
        #expect(
            Digest.hex(first.code(of: Array("Hi There".utf8)))
                == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        let second = MessageCode(key: Array("Jefe".utf8))
        #expect(
            Digest.hex(second.code(of: Array("what do ya want for nothing?".utf8)))
                == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    }

    @Test func `only the beginning of the code of the very message is valid, and only under its key`() {
        let (ours, other) = (MessageCode(), MessageCode())
        let message: [UInt8] = [1, 2, 3]
        let code = ours.code(of: message)
        #expect(ours.isValid(code, for: message) && ours.isValid(code.prefix(16), for: message))
        #expect(!ours.isValid(code + [0], for: message) && !ours.isValid([], for: message))
        #expect(!other.isValid(code, for: message) && !ours.isValid(code, for: [1, 2, 4]))
        for index in code.indices {
            var changed = code
            changed[index] ^= 1 << UInt8(index % 8)
            #expect(!ours.isValid(changed, for: message))
        }
    }
}
