import TestSupport
import Testing

@Suite struct JSONFuzzCasesTests {
    @Test func `every seed and every failure of the past holds the properties`() throws {
        let inputs = try FuzzInputs.all(of: "JSON")
        #expect(inputs.count >= 5)
        for (name, bytes) in inputs {
            for end in 0...bytes.count {
                #expect(JSONProperty.violation(Array(bytes[..<end])) == nil, "\(name), \(end) bytes")
            }
        }
    }
}
