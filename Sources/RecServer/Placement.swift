import Artifacts
import JSON
import RecCore
import Retrieval

/// A placement of the manifest, resolved against the catalogue once when the bundle is loaded.
struct Placement: Sendable {
    /// An item with its place of the page, from 0.
    struct Pin: Sendable, Equatable {
        let position: Int
        let row: Int
    }

    /// What matching items' scores become.
    struct Boost: Sendable {
        let filter: CompiledFilter
        let factor: Double
        let add: Double
    }

    /// Most items per value of an attribute.
    struct Cap: Sendable {
        let attribute: Int
        let maximum: Int
    }

    let name: String
    let weights: [String: Double]
    let quotas: [CandidateSources: Int]
    let filter: CompiledFilter?
    /// In display order.
    let pins: [Pin]
    let boosts: [Boost]
    let caps: [Cap]
    let diversity: Double?

    /// Whether a page by its rules is other than the first items of a list.
    var reorders: Bool { !boosts.isEmpty || !caps.isEmpty || diversity ?? 0 > 0 }

    /// - Throws: naming the place in the manifest that does not fit the catalogue.
    init(_ configuration: PlacementConfiguration, _ catalog: ItemCatalog) throws(BundleError) {
        let place = JSONObjectReader.pointer("/placements", configuration.name)
        name = configuration.name
        weights = configuration.weights
        quotas = configuration.quotas
        diversity = configuration.diversity
        filter = try configuration.filter.map { filter throws(BundleError) in
            try Self.resolved(place + "/filter") { () throws(RetrievalError) in try catalog.compile(filter) }
        }
        var pins: [Pin] = []
        for (index, pin) in configuration.pins.enumerated() {
            for (offset, id) in pin.itemIDs.enumerated() {
                guard let row = catalog.row(of: id) else {
                    throw BundleError(
                        file: "manifest.json", tensor: "\(place)/pins/\(index)",
                        expected: "items of the catalogue", found: "\"\(id)\"")
                }
                pins.append(Pin(position: pin.position - 1 + offset, row: row))
            }
        }
        self.pins = pins.sorted { $0.position < $1.position }
        var boosts: [Boost] = []
        for (index, boost) in configuration.boosts.enumerated() {
            let filter = try Self.resolved("\(place)/boosts/\(index)/filter") { () throws(RetrievalError) in
                try catalog.compile(boost.filter)
            }
            boosts.append(Boost(filter: filter, factor: boost.factor, add: boost.add))
        }
        self.boosts = boosts
        var caps: [Cap] = []
        for (index, cap) in configuration.caps.enumerated() {
            let attribute = try Self.resolved("\(place)/caps/\(index)/attribute") {
                () throws(RetrievalError) in try catalog.filterableAttribute(cap.attribute)
            }
            caps.append(Cap(attribute: attribute, maximum: cap.maximum))
        }
        self.caps = caps
    }

    private static func resolved<Value>(_ place: String, _ make: () throws(RetrievalError) -> Value)
        throws(BundleError) -> Value
    {
        do throws(RetrievalError) { return try make() } catch {
            throw BundleError(
                file: "manifest.json", tensor: place, expected: "filterable attributes of the items",
                found: error.description)
        }
    }

    /// The score of `row` after all boosts that match it.
    ///
    /// A factor above 1 lifts: it multiplies a score of 0 or more and divides a negative one. What is added
    /// is in units of the value model, so only its scores get it.
    func boosted(_ score: Double, row: Int, kind: ScoreKind) -> Double {
        var factor = 1.0
        var sum = 0.0
        for boost in boosts where boost.filter.matches(row) {
            factor *= boost.factor
            sum += boost.add
        }
        return (score < 0 ? score / factor : score * factor) + (kind == .value ? sum : 0)
    }
}

/// Counts the values of capped attributes while a page is filled.
struct CapCounter {
    private let caps: [Placement.Cap]
    private let catalog: ItemCatalog
    private var counts: [[UInt64: Int]]

    /// Nil for a placement without caps.
    init?(_ placement: Placement, _ catalog: ItemCatalog) {
        guard !placement.caps.isEmpty else { return nil }
        caps = placement.caps
        self.catalog = catalog
        counts = caps.map { _ in [:] }
    }

    /// Counts a row that is on the page in any case.
    mutating func count(_ row: Int) {
        for (index, cap) in caps.enumerated() {
            for key in catalog.valueKeys(row, attribute: cap.attribute) {
                counts[index][key, default: 0] += 1
            }
        }
    }

    /// Counts a row if no cap is against it; one without a value of an attribute is not capped by it.
    mutating func admit(_ row: Int) -> Bool {
        let isFree = caps.indices.allSatisfy { index in
            catalog.valueKeys(row, attribute: caps[index].attribute).allSatisfy {
                counts[index][$0, default: 0] < caps[index].maximum
            }
        }
        if isFree { count(row) }
        return isFree
    }
}

extension SourceQuotas {
    /// These quotas with others for the sources that are named.
    func replacing(_ quotas: [CandidateSources: Int]) -> SourceQuotas {
        SourceQuotas(
            tower: quotas[.tower] ?? tower, sequence: quotas[.sequence] ?? sequence,
            itemToItem: quotas[.itemToItem] ?? itemToItem, popular: quotas[.popular] ?? popular)
    }
}
