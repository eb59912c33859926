/// The manifest of a reference bundle (ModelFormat.md §3).
struct ReferenceManifest {
    let shape: ReferenceShape
    let seed: UInt64

    /// Features with a table of their own in `model.safetensors`.
    static let tables: [(name: String, rows: Int, width: Int)] = [
        ("age", ReferenceShape.ages.count + 2, 8), ("country", ReferenceShape.countries.count + 1, 8),
        ("device", ReferenceShape.devices.count + 1, 8), ("hour", ReferenceShape.hours.count + 2, 8),
        ("category", ReferenceShape.categories.count + 1, 8), ("brand", ReferenceShape.brandBuckets + 1, 8),
        ("tags", ReferenceShape.tags.count + 1, 8),
    ]
    /// user_row, recent, age, country.
    static let towerWidth = 2 * ReferenceShape.dimension + 16
    /// The tower's inputs, device and hour: 160; then the item's 94, the two scores and the sequence vector.
    static let rankerWidth =
        towerWidth + 16 + ReferenceShape.dimension + 3 * 8 + 3 * 2 + 2
        + ReferenceShape.sequenceDimension

    func text(files: [ReferenceBundle.Entry]) -> String {
        let list = files.map { "\"\($0.name)\": {\"sha256\": \"\($0.sha256)\", \"bytes\": \($0.byteCount)}" }
        return """
            {
             "format_version": 1, "kind": "full",
             "model_version": "reference-\(shape.items)-\(seed)", "space_version": "reference-\(seed)",
             "info": {"contents": "random, from seed \(seed)", "now": \(Int(ReferenceShape.now))},
             "files": {\(list.joined(separator: ",\n  "))},
             "items": {"count": \(shape.items), "attributes": [
              {"name": "category", "type": "string", "filterable": true}, {"name": "brand", "type": "string"},
              {"name": "tags", "type": "strings", "filterable": true},
              {"name": "price", "type": "number", "filterable": true},
              {"name": "age_days", "type": "number"}, {"name": "rating", "type": "number"}]},
             "users": {"count": \(shape.users), "histories": true, "attributes": [
              {"name": "age", "type": "number"}, {"name": "country", "type": "string"}]},
             "features": [\(features.joined(separator: ",\n  "))],
            \(stages)
             "tolerances": {"golden": 1e-4}
            }

            """
    }

    private var features: [String] {
        let d = ReferenceShape.dimension
        func vocabulary(_ name: String, _ origin: String, _ words: [String], _ more: String = "") -> String {
            """
            {"name": "\(name)", "from": "\(origin)", "encode": "vocabulary", "dimension": 8\(more),
               "vocabulary": \(words)}
            """
        }
        func squash(_ name: String, _ function: String, _ mean: Double, _ deviation: Double) -> String {
            """
            {"name": "\(name)", "from": "item", "encode": "squash", "function": "\(function)",
               "mean": \(mean), "std": \(deviation)}
            """
        }
        func stage(_ name: String, _ stage: String) -> String {
            "{\"name\": \"\(name)\", \"from\": \"stage\", \"encode\": \"stage\", \"stage\": \"\(stage)\"}"
        }
        return [
            "{\"name\": \"user_row\", \"from\": \"user_id\", \"encode\": \"row\", \"dimension\": \(d)}",
            """
            {"name": "recent", "from": "history", "encode": "pool", "table": "item.vector", "dimension": \(d),
               "last": 30, "pooling": "mean"}
            """,
            """
            {"name": "age", "from": "user", "encode": "bins", "dimension": 8,
               "boundaries": \(ReferenceShape.ages)}
            """,
            vocabulary("country", "user", ReferenceShape.countries),
            vocabulary("device", "context", ReferenceShape.devices),
            """
            {"name": "hour", "from": "context", "encode": "bins", "dimension": 8,
               "boundaries": \(ReferenceShape.hours)}
            """,
            """
            {"name": "item_vector", "from": "item_id", "encode": "row", "table": "item.vector",
               "dimension": \(d)}
            """,
            vocabulary("category", "item", ReferenceShape.categories),
            """
            {"name": "brand", "from": "item", "encode": "hash", "buckets": \(ReferenceShape.brandBuckets),
               "dimension": 8}
            """,
            vocabulary("tags", "item", ReferenceShape.tags, ", \"pooling\": \"mean\""),
            squash("price", "log1p", 3, 1), squash("age_days", "identity", 500, 300),
            squash("rating", "identity", 3, 1.2), stage("tower_score", "tower.score"),
            stage("sequence_score", "sequence.score"), stage("sequence_vector", "sequence.vector"),
        ]
    }

    private var stages: String {
        let sequence = ReferenceShape.sequenceDimension
        let calibration = "{\"kind\": \"none\"}"
        let tasks = ReferenceShape.tasks.map { "{\"name\": \"\($0)\", \"calibration\": \(calibration)}" }
        let weights = zip(ReferenceShape.tasks, ReferenceShape.taskWeights).map { "\"\($0)\": \($1)" }
        let inputs = [
            "user_row", "recent", "age", "country", "device", "hour", "item_vector", "category", "brand",
            "tags", "price", "age_days", "rating", "tower_score", "sequence_score", "sequence_vector",
        ]
        return """
             "retrieval": {"metric": "inner_product", "dimension": \(ReferenceShape.dimension),
              "candidates": \(shape.candidates), "shortlist_factor": \(ReferenceShape.shortlistFactor),
              "index": {"kind": "ivfpq", "lists": \(shape.lists),
               "subquantizers": \(ReferenceShape.subquantizers), "bits": 8, "probes": \(shape.probes)},
              "sources": {"tower": \(shape.candidates)}},
             "tower": {"inputs": \(Array(inputs.prefix(4))), "layers": 1, "activation": "identity",
              "normalize": "l2"},
             "sequence": {"family": "hstu", "dimension": \(sequence), "layers": \(ReferenceShape.layers),
              "heads": \(ReferenceShape.heads), "qk_dimension": \(sequence / ReferenceShape.heads),
              "value_dimension": \(sequence / ReferenceShape.heads), "normalizer": \(shape.normalizer),
              "position_bias": true, "time_bias": true, "max_events": \(shape.events),
              "window_block": \(ReferenceShape.windowBlock), "actions": \(ReferenceShape.actions),
              "target": true},
             "ranker": {"family": "dcn_v2", "inputs": \(inputs), "structure": "stacked",
              "cross_layers": \(ReferenceShape.crossLayers), "cross_rank": 0, "deep": \(ReferenceShape.deep),
              "activation": "relu", "tasks": [\(tasks.joined(separator: ", "))]},
             "value": {"form": "linear", "weights": {\(weights.joined(separator: ", "))}},
            """
    }
}
