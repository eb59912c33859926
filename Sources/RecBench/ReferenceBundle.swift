internal import Artifacts
internal import Kernels

/// Writes a reference bundle: the shapes of a real one, random contents, the same for the same seed.
struct ReferenceBundle {
    let shape: ReferenceShape
    let seed: UInt64
    /// The folder, which must be there.
    let path: String
    let progress: (String) -> Void

    /// A file as the manifest names it.
    struct Entry {
        let name: String
        let sha256: String
        let byteCount: Int
    }

    /// Values made and written at a time.
    private static let slice = 1 << 22

    private func random(_ name: String) -> GaussianRandom { GaussianRandom(seed: seed, name: name) }

    /// Writes all files and the manifest last.
    func write() throws(BundleError) {
        let workload = Workload(dimension: ReferenceShape.dimension, seed: seed)
        var entries = [try writeItems(workload)]
        entries.append(try writeSequenceTable())
        entries.append(try writeUsers(workload))
        entries.append(try writeModel())
        let manifest = ReferenceManifest(shape: shape, seed: seed).text(files: entries)
        try AtomicFile.write(Array(manifest.utf8), to: path + "/manifest.json")
    }

    // MARK: Items

    private func writeItems(_ workload: Workload) throws(BundleError) -> Entry {
        let count = shape.items
        let category = column("category", ReferenceShape.categories, 1...1)
        let brand = column("brand", (0..<ReferenceShape.brands).map { "brand-\($0)" }, 1...1)
        let tags = column("tags", ReferenceShape.tags, 0...4)
        let columns = [("category", category), ("brand", brand), ("tags", tags)]
        let ids = StringBytes((0..<count).map { Self.itemID($0) })
        var tensors: [SafeTensorsFile.Tensor] = [.u64("item_ids.offsets", count + 1)]
        for (name, column) in columns {
            tensors.append(.u64("item.attr.\(name).offsets", count + 1))
            tensors.append(.u64("item.attr.\(name).dictionary.offsets", column.dictionary.offsets.count))
        }
        for name in ["price", "age_days", "rating"] {
            tensors.append(.f64("item.attr.\(name).values", count))
        }
        tensors.append(.f32("item.vector", [count, ReferenceShape.dimension]))
        tensors.append(.f32("item.popularity", [count]))
        for (name, column) in columns {
            tensors.append(.u32("item.attr.\(name).values", column.values.count))
        }
        tensors.append(.u8("item_ids.bytes", ids.bytes.count))
        for (name, column) in columns {
            tensors.append(.u8("item.attr.\(name).dictionary.bytes", column.dictionary.bytes.count))
        }
        tensors.append(.u8("item.attr.rating.present", count))
        let file = try open("items.safetensors", tensors)
        try file.append(ids.offsets)
        for (_, column) in columns {
            try file.append(column.offsets)
            try file.append(column.dictionary.offsets)
        }
        var numbers = random("item.attr")
        try file.append((0..<count).map { _ in 20 * exponential(Double(numbers.next())) })
        try file.append((0..<count).map { _ in (1000 * numbers.uniform()).rounded() })
        try file.append((0..<count).map { _ in 1 + (40 * numbers.uniform()).rounded() / 10 })
        try writeVectors(workload.itemStream(), to: file)
        try file.append(popularity())
        for (_, column) in columns { try file.append(column.values) }
        try file.append(ids.bytes)
        for (_, column) in columns { try file.append(column.dictionary.bytes) }
        try file.append((0..<count).map { _ in UInt8(numbers.uniform() < 0.9 ? 1 : 0) })
        return try close(file, "items.safetensors")
    }

    static func itemID(_ row: Int) -> String { "item-\(row)" }
    static func userID(_ row: Int) -> String { "user-\(row)" }

    private func writeVectors(_ source: Workload.Stream, to file: SafeTensorsFile) throws(BundleError) {
        var source = source
        var norms = random("item.norm")
        try inSlices(shape.items, "item vectors") { rows throws(BundleError) in
            var values = source.next(rows)
            if shape.hasNorms {
                for row in 0..<rows {
                    let norm = Float(exponential(0.6 * Double(norms.next())))
                    let first = row * ReferenceShape.dimension
                    for i in first..<first + ReferenceShape.dimension { values[i] *= norm }
                }
            }
            try file.append(values)
        }
    }

    private func popularity() -> [Float] {
        let ranks = ZipfRanks(count: shape.items)
        var popularity = [Float](repeating: 0, count: shape.items)
        for rank in 0..<shape.items { popularity[ranks.row(rank: rank)] = 1e6 / Float(rank + 1) }
        return popularity
    }

    private func writeSequenceTable() throws(BundleError) -> Entry {
        let width = ReferenceShape.sequenceDimension
        let name = "sequence.item_embedding.weight"
        let file = try open("sequence.safetensors", [.f16(name, [shape.items, width])])
        var random = random(name)
        let deviation = 1 / Float(width).squareRoot()
        try inSlices(shape.items, "sequence table", width: width) { rows throws(BundleError) in
            try file.append((0..<rows * width).map { _ in Float16(deviation * random.next()).bitPattern })
        }
        return try close(file, "sequence.safetensors")
    }

    // MARK: Users

    private func writeUsers(_ workload: Workload) throws(BundleError) -> Entry {
        let count = shape.users
        let events = shape.events
        let ids = StringBytes((0..<count).map { Self.userID($0) })
        let country = column("country", ReferenceShape.countries, 1...1, rows: count)
        let file = try open(
            "users.safetensors",
            [
                .u64("user_ids.offsets", count + 1), .u64("history.offsets", count + 1),
                .u64("user.attr.country.offsets", count + 1),
                .u64("user.attr.country.dictionary.offsets", country.dictionary.offsets.count),
                .f64("user.attr.age.values", count), .f64("history.timestamps", count * events),
                .f32("feature.user_row.weight", [count + 1, ReferenceShape.dimension]),
                .u32("user.attr.country.values", country.values.count),
                .u32("history.items", count * events),
                .u8("user_ids.bytes", ids.bytes.count), .u8("history.actions", count * events),
                .u8("user.attr.country.dictionary.bytes", country.dictionary.bytes.count),
            ])
        try file.append(ids.offsets)
        try file.append((0...count).map { UInt64($0 * events) })
        try file.append(country.offsets)
        try file.append(country.dictionary.offsets)
        var ages = random("user.attr.age")
        try file.append((0..<count).map { _ in (14 + 70 * ages.uniform()).rounded() })
        try writeTimes(to: file)
        try file.append([Float](repeating: 0, count: ReferenceShape.dimension))
        var vectors = workload.userStream()
        try inSlices(count, "user vectors") { rows throws(BundleError) in
            try file.append(vectors.next(rows))
        }
        try file.append(country.values)
        var random = random("history")
        let ranks = ZipfRanks(count: shape.items)
        try inSlices(count * events, "histories", width: 1) { events throws(BundleError) in
            try file.append((0..<events).map { _ in UInt32(ranks.row(rank: ranks.rank(random.uniform()))) })
        }
        try file.append(ids.bytes)
        try inSlices(count * events, "actions", width: 1) { events throws(BundleError) in
            try file.append(
                (0..<events).map { _ in
                    let draw = random.uniform()
                    return UInt8(draw < 0.8 ? 1 : draw < 0.95 ? 2 : 3)
                })
        }
        try file.append(country.dictionary.bytes)
        return try close(file, "users.safetensors")
    }

    /// Gaps from minutes to weeks; the last event is within a day before the requests' time.
    private func writeTimes(to file: SafeTensorsFile) throws(BundleError) {
        var random = random("history.timestamps")
        let events = shape.events
        try inSlices(shape.users, "times", width: events) { users throws(BundleError) in
            var times = [Double](repeating: 0, count: users * events)
            for user in 0..<users {
                var time = ReferenceShape.now - 86_400 * random.uniform()
                for event in (0..<events).reversed() {
                    times[user * events + event] = time.rounded()
                    time -= exponential(8 + 2 * Double(random.next()))
                }
            }
            try file.append(times)
        }
    }

    // MARK: Weights

    private func writeModel() throws(BundleError) -> Entry {
        let weights = ReferenceWeights(shape: shape)
        let file = try open("model.safetensors", weights.all.map { .f32($0.name, $0.shape) })
        for weight in weights.all {
            var random = random(weight.name)
            var values = random.normals(weight.shape.reduce(1, *), deviation: weight.deviation)
            weight.addDiagonal(to: &values)
            try file.append(values)
        }
        return try close(file, "model.safetensors")
    }

    // MARK: Parts

    private func open(_ name: String, _ tensors: [SafeTensorsFile.Tensor]) throws(BundleError)
        -> SafeTensorsFile
    {
        progress("writing \(name)")
        return try SafeTensorsFile(path: path + "/" + name, name: name, tensors: tensors)
    }

    private func close(_ file: SafeTensorsFile, _ name: String) throws(BundleError) -> Entry {
        let end = try file.finish()
        return Entry(name: name, sha256: end.sha256, byteCount: end.byteCount)
    }

    /// Calls `body` with the number of rows of one slice after the other; `width` values a row.
    private func inSlices(
        _ count: Int, _ what: String, width: Int = ReferenceShape.dimension,
        _ body: (Int) throws(BundleError) -> Void
    ) throws(BundleError) {
        var done = 0
        var told = 0
        while done < count {
            let rows = min(max(1, Self.slice / width), count - done)
            try body(rows)
            done += rows
            guard done == count || done - told >= count / 4 else { continue }
            told = done
            progress("\(what): \(done) of \(count)")
        }
    }

    private func column(_ name: String, _ words: [String], _ perRow: ClosedRange<Int>, rows: Int? = nil)
        -> StringColumn
    {
        var random = random("column." + name)
        let rows = rows ?? shape.items
        var offsets: [UInt64] = [0]
        var values: [UInt32] = []
        for _ in 0..<rows {
            let count = perRow.lowerBound + random.integer(below: perRow.count)
            for _ in 0..<count { values.append(UInt32(random.integer(below: words.count))) }
            offsets.append(UInt64(values.count))
        }
        return StringColumn(dictionary: StringBytes(words), offsets: offsets, values: values)
    }

    private func exponential(_ x: Double) -> Double { power(2.718281828459045, x) }
}

/// A string list's two tensors.
struct StringBytes {
    private(set) var bytes: [UInt8] = []
    private(set) var offsets: [UInt64] = [0]

    init(_ strings: [String]) {
        for string in strings {
            bytes.append(contentsOf: string.utf8)
            offsets.append(UInt64(bytes.count))
        }
    }
}

/// A `string` or `strings` attribute's tensors.
struct StringColumn {
    let dictionary: StringBytes
    let offsets: [UInt64]
    let values: [UInt32]
}
