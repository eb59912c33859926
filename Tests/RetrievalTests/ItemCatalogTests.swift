import Artifacts
import Kernels
import RecCore
import Retrieval
import TestSupport
import Testing

@Suite struct ItemCatalogTests {
    let bundle = TinyBundle(count: 700, seed: 31)

    @Test func `every id is found at its row and nothing else is`() throws {
        let catalog = try bundle.catalog()
        for (row, id) in bundle.ids.enumerated() {
            #expect(catalog.row(of: id) == row)
            #expect(catalog.id(row) == id)
            #expect(Array(catalog.utf8ID(row)) == Array(id.utf8))
        }
        for id in [
            "", "item-1", "item-", "item-0 ", "ITEM-0", String(repeating: "x", count: 500), "item-7\u{0}",
        ] {
            #expect(catalog.row(of: id) == nil)
        }
    }

    @Test func `ids of any bytes are told apart`() throws {
        let ids = [
            "a", "A", "á", "a\u{301}", "a ", "aaaaaaaa", "aaaaaaaaa", "\u{0}", "\u{0}\u{0}", "日本", "日",
        ]
        var writer = SafeTensorsWriter()
        writer.add("item_ids", strings: ids)
        writer.add("item.popularity", floats: ids.map { _ in 0 }, shape: [ids.count])
        let catalog = try ItemCatalog(
            ItemsConfiguration(count: ids.count),
            tensors: BundleTensors(files: [("m", FileBytes(writer.file()))]))
        for (row, id) in ids.enumerated() { #expect(catalog.row(of: id) == row) }
    }

    @Test func `attributes come back as they were written`() throws {
        let catalog = try bundle.catalog()
        for (i, row) in bundle.rows.enumerated() {
            #expect(catalog.attribute(i, "genre") == row.genre.map { .string($0) })
            #expect(catalog.attribute(i, "tags") == .strings(row.tags))
            #expect(catalog.attribute(i, "year") == row.year.map { .number($0) })
            #expect(catalog.attribute(i, "adult") == row.adult.map { .boolean($0) })
            #expect(catalog.attribute(i, "title") == nil)
            #expect(catalog.attribute(i, "nothing") == nil)
        }
    }

    @Test func `the popular order falls, ties by row`() throws {
        let order = try bundle.catalog().popularOrder.map(Int.init)
        let p = bundle.popularity
        #expect(order == p.indices.sorted { p[$0] != p[$1] ? p[$0] > p[$1] : $0 < $1 })
    }

    @Test func `repeated, empty and overlong ids are refused`() throws {
        for bad in [bundle.ids[3], "", String(repeating: "x", count: 129)] {
            var ids = bundle.ids
            ids[600] = bad
            let error = #expect(throws: BundleError.self) { try bundle.catalog(bundle.writer(ids: ids)) }
            #expect(error?.tensor?.hasPrefix("item_ids") == true)
        }
        var ids = bundle.ids
        ids[600] = String(repeating: "x", count: 128)
        _ = try bundle.catalog(bundle.writer(ids: ids))
    }

    @Test func `two values in a single-valued attribute and flags other than 0 and 1 are refused`() throws {
        var writer = SafeTensorsWriter()
        writer.add("item_ids", strings: ["a", "b"])
        writer.add("item.popularity", floats: [1, 2], shape: [2])
        writer.add("item.attr.x.dictionary", strings: ["u", "v"])
        writer.add("item.attr.x.offsets", unsigned64: [0, 2, 2])
        writer.add("item.attr.x.values", unsigned32: [0, 1])
        writer.add("item.attr.y.values", bytes: [1, 2])
        func load(_ definition: AttributeDefinition) throws {
            _ = try ItemCatalog(
                ItemsConfiguration(count: 2, attributes: [definition]),
                tensors: BundleTensors(files: [("m", FileBytes(writer.file()))]))
        }
        try load(AttributeDefinition(name: "x", type: .strings))
        let two = #expect(throws: BundleError.self) {
            try load(AttributeDefinition(name: "x", type: .string))
        }
        #expect(two?.tensor == "item.attr.x.offsets")
        let flag = #expect(throws: BundleError.self) {
            try load(AttributeDefinition(name: "y", type: .boolean))
        }
        #expect(flag?.tensor == "item.attr.y.values")
        #expect(throws: BundleError.self) { try load(AttributeDefinition(name: "z", type: .number)) }
    }
}

@Suite struct CompiledFilterTests {
    let bundle = TinyBundle(count: 300, seed: 32)

    @Test func `random trees mean what their definition says`() throws {
        let catalog = try bundle.catalog()
        var random = SeededRandom(33)
        var passed = 0
        for _ in 0..<400 {
            let filter = TinyBundle.filter(depth: 4, &random)
            let compiled = try catalog.compile(filter)
            for row in 0..<300 {
                let expected = bundle.matches(filter, row)
                passed += expected ? 1 : 0
                guard compiled.matches(row) == expected else {
                    Issue.record("row \(row) of \(filter)")
                    break
                }
            }
        }
        #expect(passed > 10_000 && passed < 110_000)
    }

    @Test func `many wanted strings are found like few`() throws {
        let catalog = try bundle.catalog()
        let filter = ItemFilter.isIn(
            field: "tags", values: (TinyBundle.words + (0..<50).map { "w\($0)" }).map { .string($0) })
        let compiled = try catalog.compile(filter)
        for row in 0..<300 { #expect(compiled.matches(row) == !bundle.rows[row].tags.isEmpty) }
    }

    @Test func `fields that are unknown, not filterable or of another type are typed errors`() throws {
        let catalog = try bundle.catalog()
        let cases: [(ItemFilter, RetrievalError)] = [
            (.isIn(field: "nope", values: []), .unknownFilterField("nope")),
            (.not(.isIn(field: "title", values: [.string("x")])), .notFilterable("title")),
            (
                .isIn(field: "year", values: [.string("1990")]),
                .filterType(field: "year", expected: "numbers")
            ),
            (.isIn(field: "genre", values: [.number(1)]), .filterType(field: "genre", expected: "strings")),
            (
                .isIn(field: "adult", values: [.string("true")]),
                .filterType(field: "adult", expected: "booleans")
            ),
        ]
        for (filter, error) in cases { #expect(throws: error) { try catalog.compile(filter) } }
        #expect(throws: RetrievalError.self) {
            try catalog.compile(
                .range(field: "genre", greaterOrEqual: 1, greater: nil, lessOrEqual: nil, less: nil))
        }
    }

    @Test func `a filter too deep or too long is refused, not recursed into`() throws {
        let catalog = try bundle.catalog()
        var deep = ItemFilter.all([])
        for _ in 0..<100 { deep = .not(deep) }
        #expect(throws: RetrievalError.filterTooLarge) { try catalog.compile(deep) }
        let long = ItemFilter.any(
            [ItemFilter](repeating: .isIn(field: "year", values: [.number(1)]), count: 257))
        #expect(throws: RetrievalError.filterTooLarge) { try catalog.compile(long) }
    }
}
