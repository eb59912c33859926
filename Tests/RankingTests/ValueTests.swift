import Artifacts
import Kernels
import TestSupport
import Testing

@testable import Ranking

@Suite struct ValueTests {
    @Test func `each calibration is its formula`() {
        for z in stride(from: -12.0, through: 12, by: 0.37) {
            let p = 1 / (1 + power(2.718281828459045, -z))
            #expect(abs(Calibration.none.probability(logit: z) - p) < 1e-12)
            #expect(
                abs(Calibration.platt(a: 1.5, b: -0.25).probability(logit: z) - sigmoid(1.5 * z - 0.25))
                    < 1e-15)
            #expect(Calibration.logitOffset(2).probability(logit: z) == sigmoid(z + 2))
            let isotonic = Calibration.isotonic(x: [0.1, 0.2, 0.6], y: [0.05, 0.05, 0.9])
            let expected = p <= 0.2 ? 0.05 : p >= 0.6 ? 0.9 : 0.05 + 0.85 * (p - 0.2) / 0.4
            #expect(abs(isotonic.probability(logit: z) - expected) < 1e-12)
            #expect(Calibration.isotonic(x: [0.5], y: [0.3]).probability(logit: z) == 0.3)
        }
        for calibration in [
            Calibration.none, .platt(a: 1, b: 1), .logitOffset(1), .isotonic(x: [0, 1], y: [0, 1]),
        ] {
            #expect(calibration.probability(logit: .nan).isNaN)
            #expect(calibration.probability(logit: .infinity) == 1)
        }
    }

    func value(_ form: ValueConfiguration.Form, _ p: [Double], _ w: [Double]) throws -> Double {
        let tasks = p.indices.map { "t\($0)" }
        let model = try ValueModel(ValueConfiguration(form: form, weights: [:]), tasks: tasks)
        let weights = try model.weights(overriding: Dictionary(uniqueKeysWithValues: zip(tasks, w)))
        return model.value(p[...], weights: weights)
    }

    @Test func `each form is its formula, with the floor and negative weights`() throws {
        let p = [0.5, 0.0, 0.25], w = [1.0, 0.5, -2]
        #expect(try value(.linear, p, w) == 0.5 - 0.5)
        #expect(
            abs(
                try value(.log, p, w)
                    - (naturalLogarithm(0.5) + 0.5 * naturalLogarithm(1e-9) - 2 * naturalLogarithm(0.25)))
                < 1e-12)
        #expect(abs(try value(.power, p, w) - 0.5 * power(1e-9, 0.5) * 16) < 1e-12)
        #expect(try value(.linear, [.nan, 0.1, 0.1], w).isNaN)
        #expect(try value(.log, [.nan, 0.1, 0.1], w).isNaN)
        #expect(try !value(.power, [1e-9, 0.1, 0.1], [-1e6, 0, 0]).isFinite)
    }

    @Test
    func `request weights override by task, and an unknown task or a weight that is no number is refused`()
        throws
    {
        let model = try ValueModel(
            ValueConfiguration(form: .linear, weights: ["like": 2]), tasks: ["watch", "like"])
        #expect(try model.weights(overriding: [:]) == [0, 2])
        #expect(try model.weights(overriding: ["watch": -1]) == [-1, 2])
        #expect(throws: RankingError.unknownTask("share")) { try model.weights(overriding: ["share": 1]) }
        #expect(throws: RankingError.weightNotFinite(task: "like")) {
            try model.weights(overriding: ["like": .nan])
        }
        #expect(throws: BundleError.self) {
            try ValueModel(ValueConfiguration(form: .log, weights: ["x": 1]), tasks: ["y"])
        }
    }

    @Test func `the diverse order is the brute-force one, and none or NaN leaves it unchanged`() {
        var random = SeededRandom(5)
        for round in 0..<20 {
            let items = 30, d = 6, count = 12
            let table = Matrix(
                rows: items, columns: d,
                values: (0..<items * d).map { i in i / d == 4 ? 0 : Float.random(in: -1...1, using: &random) }
            )
            let rows = (0..<count).map { _ in Int.random(in: 0..<items, using: &random) }
            let scores = (0..<count).map { _ in Double.random(in: -3...3, using: &random) }.sorted(by: >)
            let diversity = [0, 0.1, 0.5, 0.9, 1][round % 5]
            func cosine(_ a: Int, _ b: Int) -> Double {
                let x = table.copyRow(rows[a]).map(Double.init), y = table.copyRow(rows[b]).map(Double.init)
                let length = (inner(x, x) * inner(y, y)).squareRoot()
                return length > 0 ? inner(x, y) / length : 0
            }
            var expected: [Int] = []
            while expected.count < count {
                let rest = (0..<count).filter { !expected.contains($0) }
                let values = rest.map { i in
                    let s = (scores[i] - scores.last!) / (scores[0] - scores.last!)
                    return expected.isEmpty
                        ? s : (1 - diversity) * s - diversity * expected.map { cosine(i, $0) }.max()!
                }
                // Equal values, up to rounding, go to the earlier one.
                expected.append(rest[values.firstIndex { $0 > values.max()! - 1e-6 }!])
            }
            let found = Diversity.order(
                scores: scores, rows: rows, vectors: table.view, diversity: diversity, count: count)
            #expect(Set(found) == Set(0..<count))
            #expect(found[0] == 0)
            if Set(rows).count == count { #expect(found == expected) }
            if diversity == 0 { #expect(found == Array(0..<count)) }
            let part = Diversity.order(
                scores: scores, rows: rows, vectors: table.view, diversity: diversity, count: 5)
            #expect(part == Array(found[0..<5]))
            #expect(
                Diversity.order(scores: scores, rows: rows, vectors: table.view, diversity: .nan, count: 5)
                    == Array(0..<5))
        }
        let empty = Matrix(rows: 0, columns: 3, values: [])
        #expect(Diversity.order(scores: [], rows: [], vectors: empty.view, diversity: 0.5, count: 5) == [])
    }

    @Test func `equal scores are all equally relevant`() {
        let table = Matrix(rows: 3, columns: 2, values: [1, 0, 1, 0, 0, 1])
        #expect(
            Diversity.order(
                scores: [2, 2, 2], rows: [0, 1, 2], vectors: table.view, diversity: 0.5, count: 3) == [
                    0, 2, 1,
                ])
    }
}
