internal import JSON
internal import RecCore

/// Reads the manifest's placements and experiment (ModelFormat.md §3.6, §3.7).
enum ManifestPlacementDecoder {
    /// Last place of a page.
    static let positionMaximum = 500
    static let factors = 1e-3...1e3
    static let additions = -1e6...1e6

    /// The sources a quota may be given for, by their names.
    static let sources = CandidateSources.named.filter {
        [.tower, .sequence, .itemToItem, .popular].contains($0.source)
    }

    static func placements(_ source: JSONObjectReader) throws(JSONSchemaError) -> [PlacementConfiguration] {
        try checkCount(source, PlacementConfiguration.countMaximum)
        var placements: [PlacementConfiguration] = []
        for member in source.object.members {
            let pointer = source.pointer(to: member.name)
            try checkName(member.name, pointer)
            placements.append(
                try placement(member.name, try JSONObjectReader(member.value, at: pointer)))
        }
        return placements
    }

    private static func placement(_ name: String, _ source: JSONObjectReader) throws(JSONSchemaError)
        -> PlacementConfiguration
    {
        var reader = source
        var placement = PlacementConfiguration(name: name)
        if let weights = try reader.optionalObject("weights") {
            placement.weights = try ManifestStageDecoder.weights(weights)
        }
        if var quotas = try reader.optionalObject("quotas") {
            for source in sources {
                placement.quotas[source.source] = try quotas.optionalInteger(
                    source.name, in: 0...ManifestStageDecoder.candidateMaximum)
            }
            try quotas.finish()
        }
        if let filter = reader.value("filter") {
            placement.filter = try FilterDecoder.decode(filter, at: reader.pointer(to: "filter"))
        }
        placement.pins = try pins(&reader)
        placement.boosts = try boosts(&reader)
        placement.caps = try caps(&reader)
        placement.diversity = try reader.optionalNumber("diversity", in: 0...1)
        try reader.finish()
        return placement
    }

    private static func pins(_ reader: inout JSONObjectReader) throws(JSONSchemaError)
        -> [PlacementConfiguration.Pin]
    {
        let maximum = PlacementConfiguration.pinMaximum
        var pins: [PlacementConfiguration.Pin] = []
        var items: Set<String> = []
        var places: Set<Int> = []
        for (index, value) in (try reader.optionalArray("pins", maximum: maximum) ?? []).enumerated() {
            var entry = try JSONObjectReader(value, at: reader.pointer(to: "pins") + "/\(index)")
            let position = try entry.integer("position", in: 1...positionMaximum)
            let itemIDs = try pinnedItems(&entry)
            try entry.finish()
            for (offset, id) in itemIDs.enumerated() {
                guard items.insert(id).inserted else {
                    throw JSONSchemaError(.outOfRange, entry.pointer, "an item is pinned twice")
                }
                guard places.insert(position + offset).inserted, position + offset <= positionMaximum else {
                    throw JSONSchemaError(
                        .outOfRange, entry.pointer(to: "position"),
                        "place \(position + offset) is taken or beyond \(positionMaximum)")
                }
            }
            guard items.count <= maximum else {
                throw JSONSchemaError(.outOfRange, entry.pointer, "more than \(maximum) pinned items")
            }
            pins.append(PlacementConfiguration.Pin(position: position, itemIDs: itemIDs))
        }
        return pins
    }

    /// `item_id`, or `item_ids` for several in a row.
    private static func pinnedItems(_ entry: inout JSONObjectReader) throws(JSONSchemaError) -> [String] {
        let ids = 1...128
        if let id = try entry.optionalString("item_id", bytes: ids) { return [id] }
        var list: [String] = []
        for (index, value) in try entry.array("item_ids", maximum: PlacementConfiguration.pinMaximum)
            .enumerated()
        {
            list.append(
                try JSONObjectReader.string(
                    value, at: entry.pointer(to: "item_ids") + "/\(index)", bytes: ids))
        }
        guard !list.isEmpty else {
            throw JSONSchemaError(.outOfRange, entry.pointer(to: "item_ids"), "expected at least one item")
        }
        return list
    }

    private static func boosts(_ reader: inout JSONObjectReader) throws(JSONSchemaError)
        -> [PlacementConfiguration.Boost]
    {
        var boosts: [PlacementConfiguration.Boost] = []
        for (index, value)
            in (try reader.optionalArray("boosts", maximum: PlacementConfiguration.boostMaximum) ?? [])
            .enumerated()
        {
            var entry = try JSONObjectReader(value, at: reader.pointer(to: "boosts") + "/\(index)")
            let filter = try FilterDecoder.decode(
                try entry.required("filter", entry.value("filter")), at: entry.pointer(to: "filter"))
            let factor = try entry.optionalNumber("factor", in: factors)
            let add = try entry.optionalNumber("add", in: additions)
            try entry.finish()
            guard factor != nil || add != nil else {
                throw JSONSchemaError(.missing, entry.pointer, "expected factor or add")
            }
            boosts.append(PlacementConfiguration.Boost(filter: filter, factor: factor ?? 1, add: add ?? 0))
        }
        return boosts
    }

    private static func caps(_ reader: inout JSONObjectReader) throws(JSONSchemaError)
        -> [PlacementConfiguration.Cap]
    {
        var caps: [PlacementConfiguration.Cap] = []
        for (index, value)
            in (try reader.optionalArray("caps", maximum: PlacementConfiguration.capMaximum) ?? [])
            .enumerated()
        {
            var entry = try JSONObjectReader(value, at: reader.pointer(to: "caps") + "/\(index)")
            let attribute = try ManifestDecoder.attributeName(&entry, "attribute")
            let maximum = try entry.integer("max", in: 1...positionMaximum)
            try entry.finish()
            guard !caps.contains(where: { $0.attribute == attribute }) else {
                throw JSONSchemaError(
                    .outOfRange, entry.pointer(to: "attribute"), "\(attribute) is capped twice")
            }
            caps.append(PlacementConfiguration.Cap(attribute: attribute, maximum: maximum))
        }
        return caps
    }

    static func experiment(_ source: JSONObjectReader) throws(JSONSchemaError) -> ExperimentConfiguration {
        var reader = source
        let salt = try reader.string("salt", bytes: 1...128)
        var variants: [ExperimentConfiguration.Variant] = []
        for (index, value) in try reader.array("variants", maximum: ExperimentConfiguration.variantMaximum)
            .enumerated()
        {
            var entry = try JSONObjectReader(value, at: reader.pointer(to: "variants") + "/\(index)")
            let name = try entry.string("name")
            try checkName(name, entry.pointer(to: "name"))
            guard !variants.contains(where: { $0.name == name }) else {
                throw JSONSchemaError(.outOfRange, entry.pointer(to: "name"), "the name \(name) is taken")
            }
            let variant = ExperimentConfiguration.Variant(
                name: name, share: try entry.integer("share", in: 0...ExperimentConfiguration.shareMaximum),
                placement: try entry.optionalString("placement"),
                weights: try entry.optionalObject("weights").map(ManifestStageDecoder.weights) ?? [:])
            try entry.finish()
            variants.append(variant)
        }
        try reader.finish()
        guard variants.contains(where: { $0.share > 0 }) else {
            throw JSONSchemaError(
                .outOfRange, reader.pointer(to: "variants"), "expected an arm with a share above 0")
        }
        return ExperimentConfiguration(salt: salt, variants: variants)
    }

    /// What placements and experiment say about the rest of the manifest, but for attributes and items.
    static func checkReferences(_ manifest: Manifest) throws(JSONSchemaError) {
        for placement in manifest.placements {
            let pointer = JSONObjectReader.pointer("/placements", placement.name)
            try checkTasks(placement.weights, pointer, manifest)
            if placement.quotas[.sequence] ?? 0 > 0, manifest.sequence?.dot == nil {
                throw JSONSchemaError(
                    .outOfRange, pointer + "/quotas/sequence", "there is no sequence model with a dot head")
            }
            if placement.quotas[.tower] ?? 0 > 0, manifest.tower == nil {
                throw JSONSchemaError(.outOfRange, pointer + "/quotas/tower", "there is no tower")
            }
        }
        let names = Set(manifest.placements.map(\.name))
        for (index, variant) in (manifest.experiment?.variants ?? []).enumerated() {
            let pointer = "/experiment/variants/\(index)"
            try checkTasks(variant.weights, pointer, manifest)
            if let placement = variant.placement, !names.contains(placement) {
                throw JSONSchemaError(.outOfRange, pointer + "/placement", "no placement of that name")
            }
        }
    }

    private static func checkTasks(_ weights: [String: Double], _ pointer: String, _ manifest: Manifest)
        throws(JSONSchemaError)
    {
        let tasks = Set((manifest.ranker?.tasks ?? []).map(\.name))
        for name in weights.keys.sorted() where !tasks.contains(name) {
            throw JSONSchemaError(
                .outOfRange, JSONObjectReader.pointer(pointer + "/weights", name), "no task of that name")
        }
    }

    private static func checkName(_ name: String, _ pointer: String) throws(JSONSchemaError) {
        guard Manifest.isLabel(name) else {
            throw JSONSchemaError(.outOfRange, pointer, "expected [A-Za-z0-9._-]{1,64}")
        }
    }

    private static func checkCount(_ reader: JSONObjectReader, _ maximum: Int) throws(JSONSchemaError) {
        guard reader.object.members.count <= maximum else {
            throw JSONSchemaError(.outOfRange, reader.pointer, "more than \(maximum) placements")
        }
    }
}
