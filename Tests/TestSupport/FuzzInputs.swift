import Foundation

/// What the fuzzer keeps under Tests/Fuzz for one target, to be replayed by its tests.
public enum FuzzInputs {
    /// The seeds and every input that once failed, with their names.
    public static func all(of target: String) throws -> [(name: String, bytes: [UInt8])] {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        var inputs: [(name: String, bytes: [UInt8])] = []
        for kind in ["Corpus", "FailCases"] {
            let folder = tests.appendingPathComponent("Fuzz/\(kind)/\(target)").path
            guard FileManager.default.fileExists(atPath: folder) else { continue }
            for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
            where !name.hasPrefix(".") {
                let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)"))
                inputs.append(("\(kind)/\(name)", Array(bytes)))
            }
        }
        return inputs
    }
}
