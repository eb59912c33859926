/// The weights of a reference bundle: names, shapes and spreads that keep every activation of order one.
struct ReferenceWeights {
    /// Normal deviates, and optionally a multiple of the identity on some columns.
    struct Weight {
        let name: String
        let shape: [Int]
        let deviation: Float
        var diagonals: [(column: Int, value: Float)] = []
        var mean: Float = 0

        func addDiagonal(to values: inout [Float]) {
            if mean != 0 { for i in values.indices { values[i] += mean } }
            guard let columns = shape.last else { return }
            for diagonal in diagonals {
                for row in 0..<shape[0] { values[row * columns + diagonal.column + row] += diagonal.value }
            }
        }
    }

    private(set) var all: [Weight] = []

    init(shape: ReferenceShape) {
        addTower()
        addFeatures()
        addSequence(shape)
        addRanker()
    }

    private mutating func add(_ name: String, _ shape: [Int], _ deviation: Float, mean: Float = 0) {
        all.append(Weight(name: name, shape: shape, deviation: deviation, mean: mean))
    }

    /// The user's vector, drawn a little towards what was seen last: queries lie around the items' centres.
    private mutating func addTower() {
        let d = ReferenceShape.dimension
        all.append(
            Weight(
                name: "tower.user.0.weight", shape: [d, ReferenceManifest.towerWidth], deviation: 0.01,
                diagonals: [(0, 1), (d, 0.3)]))
        add("tower.user.0.bias", [d], 0.01)
    }

    private mutating func addFeatures() {
        for feature in ReferenceManifest.tables {
            add("feature.\(feature.name).weight", [feature.rows, feature.width], 0.5)
        }
    }

    private mutating func addSequence(_ shape: ReferenceShape) {
        let d = ReferenceShape.sequenceDimension
        let root = 1 / Float(d).squareRoot()
        add("sequence.action_embedding.weight", [ReferenceShape.actions.count + 1, d], 0.5)
        add("sequence.position_embedding.weight", [shape.events + 1, d], 0.5)
        for layer in 0..<ReferenceShape.layers {
            let prefix = "sequence.layers.\(layer)."
            add(prefix + "uvqk.weight", [4 * d, d], root)
            add(prefix + "output.weight", [d, d], root)
            add(prefix + "output.bias", [d], 0.05)
            add(prefix + "position_bias", [2 * shape.normalizer - 1], 0.3)
            add(prefix + "time_bias", [129], 0.3)
        }
        add("sequence.target.norm.weight", [d], 0.1, mean: 1)
        add("sequence.target.norm.bias", [d], 0.1)
        add("sequence.target.weight", [1, d], root)
        add("sequence.target.bias", [1], 0.1)
    }

    private mutating func addRanker() {
        let width = ReferenceManifest.rankerWidth
        for layer in 0..<ReferenceShape.crossLayers {
            add("ranker.cross.\(layer).weight", [width, width], 0.5 / Float(width).squareRoot())
            add("ranker.cross.\(layer).bias", [width], 0.1)
        }
        var inputs = width
        for (layer, outputs) in ReferenceShape.deep.enumerated() {
            add("ranker.deep.\(layer).weight", [outputs, inputs], (2 / Float(inputs)).squareRoot())
            add("ranker.deep.\(layer).bias", [outputs], 0.1)
            inputs = outputs
        }
        add("ranker.head.weight", [ReferenceShape.tasks.count, inputs], 0.5 / Float(inputs).squareRoot())
        add("ranker.head.bias", [ReferenceShape.tasks.count], 0.1)
    }
}
