import Artifacts
import Kernels
import RecCore
import Retrieval
import TestSupport

/// A generated catalogue with one attribute of each type, some of them missing, kept beside in plain Swift.
struct TinyBundle {
    struct Row {
        var genre: String?
        var tags: [String]
        var year: Double?
        var adult: Bool?
    }

    let rows: [Row]
    let ids: [String]
    let popularity: [Float]
    let definitions = [
        AttributeDefinition(name: "genre", type: .string, isFilterable: true),
        AttributeDefinition(name: "tags", type: .strings, isFilterable: true),
        AttributeDefinition(name: "year", type: .number, isFilterable: true),
        AttributeDefinition(name: "adult", type: .boolean, isFilterable: true),
        AttributeDefinition(name: "title", type: .string),
    ]
    static let words = ["drama", "comedy", "war", "", "žánr", "sci-fi"]

    init(count: Int, seed: UInt64) {
        var random = SeededRandom(seed)
        rows = (0..<count).map { _ in
            Row(
                genre: Bool.random(using: &random) ? Self.words.randomElement(using: &random) : nil,
                tags: (0..<Int.random(in: 0...3, using: &random)).map { _ in
                    Self.words.randomElement(using: &random)!
                },
                year: Int.random(in: 0..<4, using: &random) == 0
                    ? nil : Double(Int.random(in: 1990...1999, using: &random)),
                adult: Int.random(in: 0..<4, using: &random) == 0 ? nil : Bool.random(using: &random))
        }
        ids = (0..<count).map { "item-\($0 * 7)" }
        popularity = (0..<count).map { _ in Float(Int.random(in: 0..<50, using: &random)) }
    }

    func writer(ids: [String]? = nil) -> SafeTensorsWriter {
        var writer = SafeTensorsWriter()
        writer.add("item_ids", strings: ids ?? self.ids)
        writer.add("item.popularity", floats: popularity, shape: [rows.count])
        // The dictionary repeats its first word: codes 0 and 6 mean the same.
        let dictionary = Self.words + [Self.words[0]]
        func code(_ word: String, _ row: Int) -> UInt32 {
            word == dictionary[0] && row % 2 == 0 ? 6 : UInt32(dictionary.firstIndex(of: word)!)
        }
        func add(_ name: String, _ lists: [[String]]) {
            writer.add("item.attr.\(name).dictionary", strings: dictionary)
            var offsets: [UInt64] = [0], values: [UInt32] = []
            for (row, list) in lists.enumerated() {
                values += list.map { code($0, row) }
                offsets.append(UInt64(values.count))
            }
            writer.add("item.attr.\(name).offsets", unsigned64: offsets)
            writer.add("item.attr.\(name).values", unsigned32: values)
        }
        add("genre", rows.map { $0.genre.map { [$0] } ?? [] })
        add("tags", rows.map(\.tags))
        add("title", rows.map { _ in [] })
        writer.add("item.attr.year.values", doubles: rows.map { $0.year ?? 0 })
        writer.add("item.attr.year.present", bytes: rows.map { $0.year == nil ? 0 : 1 })
        writer.add("item.attr.adult.values", bytes: rows.map { $0.adult == true ? 1 : 0 })
        writer.add("item.attr.adult.present", bytes: rows.map { $0.adult == nil ? 0 : 1 })
        return writer
    }

    func catalog(_ writer: SafeTensorsWriter? = nil) throws -> ItemCatalog {
        try ItemCatalog(
            ItemsConfiguration(count: rows.count, attributes: definitions),
            tensors: BundleTensors(files: [("model.safetensors", FileBytes((writer ?? self.writer()).file()))]
            ))
    }

    /// What a filter means, read off its definition.
    func matches(_ filter: ItemFilter, _ row: Int) -> Bool {
        switch filter {
        case .all(let children): return children.allSatisfy { matches($0, row) }
        case .any(let children): return children.contains { matches($0, row) }
        case .not(let child): return !matches(child, row)
        case .isIn(let field, let values):
            let present: [FilterValue] =
                switch field {
                case "genre": rows[row].genre.map { [.string($0)] } ?? []
                case "tags": rows[row].tags.map { .string($0) }
                case "year": rows[row].year.map { [.number($0)] } ?? []
                default: rows[row].adult.map { [.boolean($0)] } ?? []
                }
            return present.contains { values.contains($0) }
        case .range(_, let greaterOrEqual, let greater, let lessOrEqual, let less):
            guard let year = rows[row].year else { return false }
            return (greaterOrEqual.map { year >= $0 } ?? true) && (greater.map { year > $0 } ?? true)
                && (lessOrEqual.map { year <= $0 } ?? true) && (less.map { year < $0 } ?? true)
        }
    }

    /// A random filter over the filterable attributes.
    static func filter(depth: Int, _ random: inout SeededRandom) -> ItemFilter {
        let kinds = depth == 0 ? 3..<8 : 0..<8
        switch Int.random(in: kinds, using: &random) {
        case 0:
            return .all(
                (0..<Int.random(in: 0...3, using: &random)).map { _ in filter(depth: depth - 1, &random) })
        case 1:
            return .any(
                (0..<Int.random(in: 0...3, using: &random)).map { _ in filter(depth: depth - 1, &random) })
        case 2: return .not(filter(depth: depth - 1, &random))
        case 3, 4:
            let values = (0..<Int.random(in: 0...3, using: &random)).map { _ in
                FilterValue.string((words + ["unheard of"]).randomElement(using: &random)!)
            }
            return .isIn(field: Bool.random(using: &random) ? "genre" : "tags", values: values)
        case 5:
            return .isIn(
                field: "year", values: [.number(Double(Int.random(in: 1989...2000, using: &random)))])
        case 6: return .isIn(field: "adult", values: [.boolean(Bool.random(using: &random))])
        default:
            func bound() -> Double? {
                Bool.random(using: &random) ? Double(Int.random(in: 1990...1999, using: &random)) : nil
            }
            return .range(
                field: "year", greaterOrEqual: bound(), greater: bound(), lessOrEqual: bound(), less: bound())
        }
    }
}
