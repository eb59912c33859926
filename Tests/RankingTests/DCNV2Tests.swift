import Artifacts
import Kernels
import TestSupport
import Testing

@testable import Ranking

@Suite struct DCNV2Tests {
    /// DCN-V2 as ModelFormat.md §3.5 says it, in double precision.
    struct Twin {
        let configuration: RankerConfiguration
        let width: Int
        let tensors: TensorSet

        init(_ configuration: RankerConfiguration, width: Int, _ tensors: TensorSet) {
            self.configuration = configuration
            self.width = width
            self.tensors = tensors
        }

        init(_ seed: UInt64, _ structure: RankerConfiguration.Structure, lowRank: Bool) {
            var r = SeededRandom(seed)
            width = Int.random(in: 3...40, using: &r)
            let rank = lowRank ? Int.random(in: 1...width, using: &r) : 0
            let deep = (0..<Int.random(in: 0...3, using: &r)).map { _ in Int.random(in: 1...20, using: &r) }
            let tasks = (0..<Int.random(in: 1...3, using: &r)).map { TaskDefinition(name: "t\($0)") }
            let activation = ["relu", "silu", "gelu", "tanh", "identity"].randomElement(using: &r)!
            configuration = RankerConfiguration(
                inputs: [], structure: structure, crossLayers: Int.random(in: 0...3, using: &r),
                crossRank: rank, deep: deep,
                activation: activation, tasks: tasks)
            var t = TensorSet()
            for l in 0..<configuration.crossLayers {
                if rank > 0 {
                    t.add("ranker.cross.\(l).u.weight", [width, rank], scale: 0.3, &r)
                    t.add("ranker.cross.\(l).v.weight", [rank, width], scale: 0.3, &r)
                } else {
                    t.add("ranker.cross.\(l).weight", [width, width], scale: 0.2, &r)
                }
                t.add("ranker.cross.\(l).bias", [width], scale: 0.3, &r)
            }
            var input = width
            for (i, output) in deep.enumerated() {
                t.add("ranker.deep.\(i).weight", [output, input], scale: 0.4, &r)
                t.add("ranker.deep.\(i).bias", [output], scale: 0.4, &r)
                input = output
            }
            t.add(
                "ranker.head.weight", [tasks.count, structure == .parallel ? width + input : input],
                scale: 0.5, &r)
            t.add("ranker.head.bias", [tasks.count], scale: 0.5, &r)
            tensors = t
        }

        func activate(_ x: Double) -> Double {
            switch configuration.activation {
            case "relu": max(0, x)
            case "silu": silu(x)
            case "gelu": x * gaussianDistribution(x)
            case "tanh": 2 * sigmoid(2 * x) - 1
            default: x
            }
        }

        func logits(_ x0: [Double]) -> [Double] {
            var x = x0
            for l in 0..<configuration.crossLayers {
                let p = "ranker.cross.\(l)."
                let m =
                    configuration.crossRank > 0
                    ? product(tensors.rows(p + "u.weight"), product(tensors.rows(p + "v.weight"), x))
                    : product(tensors.rows(p + "weight"), x)
                x = plus(times(x0, plus(m, tensors.vector(p + "bias"))), x)
            }
            var deep = configuration.structure == .stacked ? x : x0
            for i in configuration.deep.indices {
                deep = product(
                    tensors.rows("ranker.deep.\(i).weight"), deep,
                    plus: tensors.vector("ranker.deep.\(i).bias")
                ).map(activate)
            }
            let input = configuration.structure == .stacked ? deep : x + deep
            return product(
                tensors.rows("ranker.head.weight"), input, plus: tensors.vector("ranker.head.bias"))
        }
    }

    @Test(arguments: [RankerConfiguration.Structure.stacked, .parallel], [true, false])
    func `logits equal the twin, whatever the block size`(
        _ structure: RankerConfiguration.Structure, _ lowRank: Bool
    ) throws {
        for seed in 0..<12 {
            let twin = Twin(UInt64(seed), structure, lowRank: lowRank)
            let tensors = try twin.tensors.bundle()
            var random = SeededRandom(UInt64(70 + seed))
            let candidateColumns = Self.ranges(twin.width, &random)
            let model = try DCNV2(
                twin.configuration, width: twin.width, candidateColumns: candidateColumns, tensors: tensors)
            try tensors.refuseUnread()
            let count = 37
            for size in [1, 5, 64] {
                let run = DCNV2Run(model, blockRows: size)
                // A request, and another one with the same scratch.
                for _ in 0..<2 {
                    let input = Self.input(count, twin.width, candidateColumns, &random)
                    let expected = (0..<count).flatMap { twin.logits(input.copyRow($0).map(Double.init)) }
                    let logits = MutableMatrix(rows: count, columns: model.taskCount)
                    run.begin(input.view)
                    for first in stride(from: 0, to: count, by: size) {
                        let rows = first..<min(first + size, count)
                        run.logits(input.view(rows: rows), into: logits.view(rows: rows))
                    }
                    expectTwin(doubles(logits.view), expected)
                }
            }
        }
    }

    /// Columns that differ between candidates: nil for all, or some ascending ranges, also side by side or
    /// none.
    static func ranges(_ width: Int, _ random: inout SeededRandom) -> [Range<Int>]? {
        guard Int.random(in: 0..<5, using: &random) > 0 else { return nil }
        let cuts = (0..<2 * Int.random(in: 0...3, using: &random)).map { _ in
            Int.random(in: 0...width, using: &random)
        }.sorted()
        return stride(from: 0, to: cuts.count, by: 2).map { cuts[$0]..<cuts[$0 + 1] }
    }

    /// Rows that are the same outside of `candidateColumns`.
    static func input(
        _ count: Int, _ width: Int, _ candidateColumns: [Range<Int>]?, _ random: inout SeededRandom
    ) -> Matrix {
        var values = (0..<count * width).map { _ in Float.random(in: -1.5...1.5, using: &random) }
        for row in 0..<count {
            for column in 0..<width
            where !(candidateColumns ?? [0..<width]).contains(where: { $0.contains(column) }) {
                values[row * width + column] = values[column]
            }
        }
        return Matrix(rows: count, columns: width, values: values)
    }

    @Test func `the request's share makes no more difference than the order of a sum`() throws {
        for seed in 0..<12 {
            let twin = Twin(UInt64(seed), seed % 2 == 0 ? .stacked : .parallel, lowRank: seed % 4 < 2)
            let tensors = try twin.tensors.bundle()
            var random = SeededRandom(UInt64(90 + seed))
            let columns = Self.ranges(twin.width, &random)
            let input = Self.input(9, twin.width, columns, &random)
            let logits = try [columns, nil].map { columns in
                let model = try DCNV2(
                    twin.configuration, width: twin.width, candidateColumns: columns, tensors: tensors)
                let run = DCNV2Run(model)
                let logits = MutableMatrix(rows: 9, columns: model.taskCount)
                run.begin(input.view)
                run.logits(input.view, into: logits.view)
                return doubles(logits.view)
            }
            expectSame(logits[0], logits[1])
        }
    }

    @Test func `a head of the wrong width is named`() throws {
        let twin = Twin(3, .parallel, lowRank: false)
        let tensors = try twin.tensors.bundle()
        let error = #expect(throws: BundleError.self) {
            try DCNV2(twin.configuration, width: twin.width + 1, tensors: tensors)
        }
        #expect(error?.tensor?.hasPrefix("ranker.") == true)
    }
}

/// Φ(x) by Simpson's rule on a fine grid: slow, obvious, exact to 1e-10.
private func gaussianDistribution(_ x: Double) -> Double {
    let steps = 200
    let h = x / Double(steps)
    func density(_ t: Double) -> Double {
        power(2.718281828459045, -t * t / 2) / (2 * 3.141592653589793).squareRoot()
    }
    var sum = density(0) + density(x)
    for i in 1..<steps { sum += density(Double(i) * h) * (i % 2 == 1 ? 4 : 2) }
    return 0.5 + sum * h / 3
}
