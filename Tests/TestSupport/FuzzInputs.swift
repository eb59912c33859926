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

extension [UInt8] {
    /// A copy with some bytes changed, put in, taken out or repeated.
    public func mutated(using random: inout some RandomNumberGenerator) -> [UInt8] {
        var bytes = self
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let place = Int.random(in: 0...bytes.count, using: &random)
            let end = Swift.min(bytes.count, place + Int.random(in: 0...8, using: &random))
            switch Int.random(in: 0..<5, using: &random) {
            case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1 where place < bytes.count: bytes[place] = UInt8.random(in: 0...255, using: &random)
            case 2: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
            case 3: bytes.removeSubrange(place..<end)
            default: bytes.insert(contentsOf: bytes[place..<end], at: place)
            }
        }
        return bytes
    }
}
