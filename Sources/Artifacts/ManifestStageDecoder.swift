internal import JSON

/// Reads the manifest's stage sections (ModelFormat.md §3.2 to §3.5).
enum ManifestStageDecoder {
    static let dimensionMaximum = 4096
    static let layerMaximum = 64
    static let candidateMaximum = 10_000
    static let eventMaximum = 8192

    static func retrieval(_ source: JSONObjectReader) throws(JSONSchemaError) -> RetrievalConfiguration {
        var reader = source
        let metric = try reader.choice("metric", Metric.allCases.map { ($0.rawValue, $0) })
        let dimension = try reader.integer("dimension", in: 1...dimensionMaximum)
        let candidates = try reader.optionalInteger("candidates", in: 1...candidateMaximum) ?? 500
        let factor = try reader.optionalInteger("shortlist_factor", in: 1...100) ?? 4
        var index = try reader.reader("index")
        var configuration = IndexConfiguration(
            kind: try index.choice("kind", [("ivfpq", .ivfpq), ("flat", .flat)]))
        if configuration.kind == .ivfpq {
            configuration.lists = try index.integer("lists", in: 1...(1 << 20))
            configuration.subquantizers = try index.integer("subquantizers", in: 1...dimension)
            guard dimension % configuration.subquantizers == 0 else {
                throw JSONSchemaError(
                    .outOfRange, index.pointer(to: "subquantizers"),
                    "does not divide the dimension \(dimension)")
            }
            configuration.bits = try index.optionalInteger("bits", in: 4...12) ?? 8
            configuration.probes = try index.integer("probes", in: 1...configuration.lists)
        }
        try index.finish()
        var sources = try reader.reader("sources")
        let quota = 0...candidateMaximum
        let quotas = SourceQuotas(
            tower: try sources.optionalInteger("tower", in: quota) ?? 0,
            sequence: try sources.optionalInteger("sequence", in: quota) ?? 0,
            itemToItem: try sources.optionalInteger("item_to_item", in: quota) ?? 0,
            popular: try sources.optionalInteger("popular", in: quota) ?? 0)
        try sources.finish()
        try reader.finish()
        return RetrievalConfiguration(
            metric: metric, dimension: dimension, candidates: candidates, shortlistFactor: factor,
            index: configuration, quotas: quotas)
    }

    static func tower(_ source: JSONObjectReader) throws(JSONSchemaError) -> TowerConfiguration {
        var reader = source
        let configuration = TowerConfiguration(
            inputs: try ManifestFeatureDecoder.strings(&reader, "inputs", maximum: 256),
            layers: try reader.integer("layers", in: 0...layerMaximum), activation: try activation(&reader),
            normalize: try normalization(&reader))
        try reader.finish()
        return configuration
    }

    static func sequence(_ source: JSONObjectReader) throws(JSONSchemaError) -> SequenceConfiguration {
        var reader = source
        let isHSTU = try reader.choice("family", [("hstu", true), ("sasrec", false)])
        let dimension = try reader.integer("dimension", in: 1...dimensionMaximum)
        let heads = try reader.integer("heads", in: 1...64)
        let maxEvents = try reader.integer("max_events", in: 1...eventMaximum)
        let family: SequenceConfiguration.Family
        if isHSTU {
            family = .hstu(
                qkDimension: try reader.integer("qk_dimension", in: 1...1024),
                valueDimension: try reader.integer("value_dimension", in: 1...1024),
                normalizer: try reader.integer("normalizer", in: (maxEvents + 1)...(1 << 20)),
                positionBias: try reader.required(
                    "position_bias", try reader.optionalBoolean("position_bias")),
                timeBias: try reader.required("time_bias", try reader.optionalBoolean("time_bias")))
        } else {
            guard dimension % heads == 0 else {
                throw JSONSchemaError(
                    .outOfRange, reader.pointer(to: "heads"), "does not divide \(dimension)")
            }
            family = .sasrec(
                variant: try reader.choice(
                    "variant", SequenceConfiguration.SASRecVariant.allCases.map { ($0.rawValue, $0) }),
                attendPads: try reader.required("attend_pads", try reader.optionalBoolean("attend_pads")))
        }
        var dot: DotHead?
        if var head = try reader.optionalObject("dot") {
            dot = DotHead(
                normalize: try normalization(&head),
                temperature: try head.optionalNumber("temperature", in: 1e-6...1e6) ?? 1)
            try head.finish()
        }
        let configuration = SequenceConfiguration(
            family: family, dimension: dimension, layers: try reader.integer("layers", in: 1...layerMaximum),
            heads: heads, maxEvents: maxEvents,
            windowBlock: try reader.optionalInteger("window_block", in: 1...maxEvents) ?? 1,
            actions: reader.object["actions"] == nil
                ? ["unknown"] : try ManifestFeatureDecoder.strings(&reader, "actions", maximum: 255),
            dot: dot, hasTarget: try reader.optionalBoolean("target") ?? false)
        guard configuration.actions.first == "unknown",
            Set(configuration.actions).count == configuration.actions.count
        else {
            throw JSONSchemaError(
                .outOfRange, reader.pointer(to: "actions"),
                "expected different names, the first of them unknown")
        }
        if !isHSTU, configuration.hasTarget {
            throw JSONSchemaError(.outOfRange, reader.pointer(to: "target"), "sasrec has no target head")
        }
        try reader.finish()
        return configuration
    }

    static func ranker(_ source: JSONObjectReader) throws(JSONSchemaError) -> RankerConfiguration {
        var reader = source
        _ = try reader.choice("family", [("dcn_v2", true)])
        var deep: [Int] = []
        for (index, value) in try reader.array("deep", maximum: layerMaximum).enumerated() {
            deep.append(
                try JSONObjectReader.integer(
                    value, at: reader.pointer(to: "deep") + "/\(index)", in: 1...dimensionMaximum))
        }
        var tasks: [TaskDefinition] = []
        for (index, value) in try reader.array("tasks", maximum: 64).enumerated() {
            var entry = try JSONObjectReader(value, at: reader.pointer(to: "tasks") + "/\(index)")
            let name = try ManifestDecoder.attributeName(&entry, "name")
            let calibration = try entry.optionalObject("calibration")
            try entry.finish()
            guard !tasks.contains(where: { $0.name == name }) else {
                throw JSONSchemaError(.outOfRange, entry.pointer(to: "name"), "the name \(name) is taken")
            }
            tasks.append(TaskDefinition(name: name, calibration: try Self.calibration(calibration)))
        }
        guard !tasks.isEmpty else {
            throw JSONSchemaError(.outOfRange, reader.pointer(to: "tasks"), "expected at least one task")
        }
        let configuration = RankerConfiguration(
            inputs: try ManifestFeatureDecoder.strings(&reader, "inputs", maximum: 1024),
            structure: try reader.choice("structure", [("stacked", .stacked), ("parallel", .parallel)]),
            crossLayers: try reader.integer("cross_layers", in: 0...layerMaximum),
            crossRank: try reader.optionalInteger("cross_rank", in: 0...dimensionMaximum) ?? 0, deep: deep,
            activation: try activation(&reader),
            tasks: tasks)
        guard !configuration.inputs.isEmpty else {
            throw JSONSchemaError(.outOfRange, reader.pointer(to: "inputs"), "expected at least one input")
        }
        try reader.finish()
        return configuration
    }

    static func value(_ source: JSONObjectReader) throws(JSONSchemaError) -> ValueConfiguration {
        var reader = source
        let form = try reader.choice(
            "form", [("linear", ValueConfiguration.Form.linear), ("log", .log), ("power", .power)])
        let weights = try Self.weights(try reader.reader("weights"))
        try reader.finish()
        return ValueConfiguration(form: form, weights: weights)
    }

    /// Weights by task; whether the tasks exist is checked against the ranker.
    static func weights(_ entries: JSONObjectReader) throws(JSONSchemaError) -> [String: Double] {
        var weights: [String: Double] = [:]
        for member in entries.object.members {
            weights[member.name] = try JSONObjectReader.number(
                member.value, at: entries.pointer(to: member.name), in: -1e6...1e6)
        }
        return weights
    }

    private static func calibration(_ source: JSONObjectReader?) throws(JSONSchemaError) -> Calibration {
        guard var reader = source else { return .none }
        let calibration: Calibration
        let bound = -1e6...1e6
        switch try reader.choice("kind", ["none", "platt", "logit_offset", "isotonic"].map { ($0, $0) }) {
        case "platt":
            calibration = .platt(a: try reader.number("a", in: bound), b: try reader.number("b", in: bound))
        case "logit_offset": calibration = .logitOffset(try reader.number("offset", in: bound))
        case "isotonic":
            let x = try ManifestFeatureDecoder.ascending(&reader, "x")
            var y: [Double] = []
            for (index, value) in try reader.array("y", maximum: 65_536).enumerated() {
                let pointer = reader.pointer(to: "y") + "/\(index)"
                let number = try JSONObjectReader.number(value, at: pointer, in: 0...1)
                if let last = y.last, number < last {
                    throw JSONSchemaError(.outOfRange, pointer, "expected ascending numbers")
                }
                y.append(number)
            }
            guard !x.isEmpty, x.count == y.count else {
                throw JSONSchemaError(
                    .outOfRange, reader.pointer(to: "y"), "expected as many points as x, at least one")
            }
            calibration = .isotonic(x: x, y: y)
        default: calibration = .none
        }
        try reader.finish()
        return calibration
    }

    private static func activation(_ reader: inout JSONObjectReader) throws(JSONSchemaError) -> String {
        guard reader.value("activation") != nil else { return "relu" }
        return try reader.choice("activation", ["relu", "silu", "gelu", "tanh", "identity"].map { ($0, $0) })
    }

    private static func normalization(_ reader: inout JSONObjectReader) throws(JSONSchemaError)
        -> VectorNormalization
    {
        guard reader.value("normalize") != nil else { return .none }
        return try reader.choice("normalize", [("l2", VectorNormalization.l2), ("none", .none)])
    }
}
