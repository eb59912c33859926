import Artifacts
import Kernels
import Retrieval
import TestSupport
import Testing

@Suite struct UserTowerTests {
    @Test func `the forward pass equals the formula in double precision`() throws {
        var random = SeededRandom(41)
        let widths = [7, 11, 5, 3]
        var matrices: [String: Matrix] = [:]
        var vectors: [String: [Float]] = [:]
        for layer in 0..<3 {
            matrices["tower.user.\(layer).weight"] = random.gaussians(widths[layer + 1], widths[layer])
            vectors["tower.user.\(layer).bias"] = random.gaussians(1, widths[layer + 1]).copyRow(0)
        }
        for normalize in [VectorNormalization.none, .l2] {
            let tower = try UserTower(
                configuration: TowerConfiguration(
                    inputs: ["x"], layers: 3, activation: "relu", normalize: normalize),
                inputWidth: 7, dimension: 3, tensors: BundleTensors(matrices: matrices, vectors: vectors))
            let scratch = UserTower.Scratch(for: tower)
            let output = MutableMatrix(rows: 1, columns: 3)
            for _ in 0..<5 {
                let input = random.gaussians(1, 7)
                tower.forward(input.view, scratch: scratch, into: output.view)
                var x = input.copyRow(0).map(Double.init)
                for layer in 0..<3 {
                    let w = matrices["tower.user.\(layer).weight"]!, b = vectors["tower.user.\(layer).bias"]!
                    x = (0..<widths[layer + 1]).map { i in
                        let z = zip(w.copyRow(i), x).reduce(Double(b[i])) { $0 + Double($1.0) * $1.1 }
                        return layer < 2 ? max(0, z) : z
                    }
                }
                let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
                if normalize == .l2 { x = x.map { $0 / max(norm, 1e-12) } }
                for i in 0..<3 { #expect(abs(Double(output[0, i]) - x[i]) < 1e-5 * max(1, abs(x[i]))) }
            }
        }
    }

    @Test func `without layers the input is the output, and widths that do not chain are refused`() throws {
        let none = try BundleTensors(matrices: [:])
        let configuration = TowerConfiguration(inputs: ["x"], layers: 0)
        let tower = try UserTower(configuration: configuration, inputWidth: 2, dimension: 2, tensors: none)
        let output = MutableMatrix(rows: 1, columns: 2)
        tower.forward(
            Matrix(rows: 1, columns: 2, values: [3, -4]).view, scratch: UserTower.Scratch(for: tower),
            into: output.view)
        #expect(output.copyRow(0) == [3, -4])
        #expect(throws: BundleError.self) {
            try UserTower(configuration: configuration, inputWidth: 3, dimension: 2, tensors: none)
        }
        let one = try BundleTensors(matrices: [
            "tower.user.0.weight": Matrix(rows: 2, columns: 4, values: [Float](repeating: 1, count: 8))
        ])
        #expect(throws: BundleError.self) {
            try UserTower(
                configuration: TowerConfiguration(inputs: ["x"], layers: 1), inputWidth: 3, dimension: 2,
                tensors: one)
        }
    }
}
