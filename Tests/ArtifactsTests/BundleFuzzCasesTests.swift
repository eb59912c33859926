import TestSupport
import Testing

@testable import Artifacts

@Suite struct BundleFuzzCasesTests {
    @Test func `every seed and every failure of the past holds the properties`() throws {
        let tensors = try FuzzInputs.all(of: "TensorFile"), manifests = try FuzzInputs.all(of: "ManifestText")
        #expect(tensors.count >= 4 && manifests.count >= 2)
        for (name, bytes) in tensors { #expect(BundleProperty.tensorsViolation(bytes) == nil, "\(name)") }
        for (name, bytes) in manifests { #expect(BundleProperty.manifestViolation(bytes) == nil, "\(name)") }
        // A seed that is refused would leave the fuzzer at the door.
        for (name, bytes) in manifests where name.hasPrefix("Corpus/") {
            #expect(throws: Never.self, "\(name)") { try ManifestDecoder.decode(bytes) }
        }
    }
}
