public import Kernels

/// All tensors of a bundle under one name space, read at load with type, shape and finiteness checked.
///
/// Names read are remembered: `refuseUnread()` finds what nobody asked for. For one thread.
public final class BundleTensors {
    /// Where a tensor's bytes are: an entry of this file.
    typealias Place = (file: SafeTensors, entry: TensorEntry)

    private let places: [String: Place]
    /// The file to blame for a tensor that is nowhere.
    private let firstFile: String
    private var read: Set<String> = []

    /// Tensors found by name.
    init(places: [String: Place], firstFile: String) {
        self.places = places
        self.firstFile = firstFile
    }

    /// The tensors of several safetensors files; a name in two of them is refused.
    convenience init(files: [SafeTensors]) throws(BundleError) {
        var places: [String: Place] = [:]
        for file in files {
            for (name, entry) in file.entries.sorted(by: { $0.key < $1.key }) {
                if let first = places.updateValue((file, entry), forKey: name) {
                    throw BundleError(
                        file: file.file, tensor: name, expected: "a name of its own",
                        found: "the same in \(first.file.file)")
                }
            }
        }
        self.init(places: places, firstFile: files.first?.file ?? "bundle")
    }

    /// The tensors of safetensors files given as (name, bytes).
    public convenience init(files: [(name: String, bytes: FileBytes)]) throws(BundleError) {
        var parsed: [SafeTensors] = []
        for file in files { parsed.append(try SafeTensors(file: file.name, bytes: file.bytes)) }
        try self.init(files: parsed)
    }

    /// All names, ascending.
    public var names: [String] { places.keys.sorted() }

    /// Where a tensor is, nil when there is none of that name; does not count as reading it.
    func place(_ name: String) -> Place? { places[name] }

    /// Whether a file has a tensor of that name; does not count as reading it.
    public func contains(_ name: String) -> Bool { places[name] != nil }

    /// The shape of a tensor, nil when there is none of that name.
    public func shape(_ name: String) -> [Int]? { places[name]?.entry.shape }

    /// - Throws: naming the first tensor that nothing in the manifest uses.
    public func refuseUnread() throws(BundleError) {
        for (name, place) in places.sorted(by: { $0.key < $1.key }) where !read.contains(name) {
            throw BundleError(
                file: place.file.file, tensor: name, expected: "a tensor the manifest uses",
                found: "one it does not")
        }
    }

    // MARK: Floats

    /// A finite matrix of exactly this shape: F32, F16, BF16, or I8 with an F16 `<name>.scale` per row.
    public func matrix(_ name: String, rows: Int, columns: Int) throws(BundleError) -> Matrix {
        let (file, entry) = try entry(name)
        guard entry.shape == [rows, columns] else {
            throw refuse(file, name, "shape [\(rows), \(columns)]", "\(entry.shape)")
        }
        return try floats(file, entry, name, rows: rows, columns: columns)
    }

    /// The same with at least `minimumRows` rows.
    public func matrix(_ name: String, minimumRows: Int, columns: Int) throws(BundleError) -> Matrix {
        let (file, entry) = try entry(name)
        guard entry.shape.count == 2, entry.shape[0] >= minimumRows, entry.shape[1] == columns else {
            throw refuse(file, name, "shape [≥ \(minimumRows), \(columns)]", "\(entry.shape)")
        }
        return try floats(file, entry, name, rows: entry.shape[0], columns: columns)
    }

    /// A finite vector of `count` values, as a matrix of one row.
    public func vector(_ name: String, count: Int) throws(BundleError) -> Matrix {
        let (file, entry) = try entry(name)
        guard entry.shape == [count] else { throw refuse(file, name, "shape [\(count)]", "\(entry.shape)") }
        guard entry.type != .i8 else { throw refuse(file, name, "F32, F16 or BF16", "I8") }
        return try floats(file, entry, name, rows: 1, columns: count)
    }

    private func floats(_ file: SafeTensors, _ entry: TensorEntry, _ name: String, rows: Int, columns: Int)
        throws(BundleError) -> Matrix
    {
        let matrix: Matrix
        switch entry.type {
        case .f32:
            matrix = Matrix(rows: rows, columns: columns) { target in
                file.bytes.withElements(Float.self, in: entry.range) { source in copy(source, to: &target) }
            }
        case .f16, .bf16:
            let format: PackedFloat = entry.type == .f16 ? .half : .bfloat
            matrix = Matrix(rows: rows, columns: columns) { target in
                file.bytes.withElements(UInt16.self, in: entry.range) { source in
                    format.widen(source, into: &target)
                }
            }
        case .i8:
            let scale = try vector(name + ".scale", count: rows)
            matrix = Matrix(rows: rows, columns: columns) { target in
                file.bytes.withElements(Int8.self, in: entry.range) { source in
                    for row in 0..<rows {
                        let factor = scale[0, row]
                        for i in row * columns..<(row + 1) * columns { target[i] = Float(source[i]) * factor }
                    }
                }
            }
        default: throw refuse(file, name, "F32, F16, BF16 or I8", entry.type.rawValue)
        }
        guard matrix.isFinite else { throw refuse(file, name, "finite values", "NaN or infinity") }
        return matrix
    }

    // MARK: Integers and text

    /// The entries of a U32 (or U8) vector, each below `limit`; of any length when `count` is nil.
    public func integers(_ name: String, count: Int?, below limit: Int) throws(BundleError) -> [UInt32] {
        let (file, entry) = try vectorEntry(name, count: count)
        let values: [UInt32]
        switch entry.type {
        case .u32: values = file.bytes.withElements(UInt32.self, in: entry.range) { array($0) }
        case .u8: values = file.bytes.withElements(UInt8.self, in: entry.range) { array($0).map(UInt32.init) }
        default: throw refuse(file, name, "U32 or U8", entry.type.rawValue)
        }
        if let bad = values.first(where: { Int($0) >= limit }) {
            throw refuse(file, name, "values below \(limit)", "\(bad)")
        }
        return values
    }

    /// The entries of a U8 vector.
    public func bytes(_ name: String, count: Int?) throws(BundleError) -> [UInt8] {
        let (file, entry) = try vectorEntry(name, count: count)
        guard entry.type == .u8 else { throw refuse(file, name, "U8", entry.type.rawValue) }
        return file.bytes.copy(entry.range)
    }

    /// The entries of a finite F64 vector.
    public func doubles(_ name: String, count: Int) throws(BundleError) -> [Double] {
        let (file, entry) = try vectorEntry(name, count: count)
        guard entry.type == .f64 else { throw refuse(file, name, "F64", entry.type.rawValue) }
        let values = file.bytes.withElements(Double.self, in: entry.range) { array($0) }
        guard values.allSatisfy(\.isFinite) else {
            throw refuse(file, name, "finite values", "NaN or infinity")
        }
        return values
    }

    /// A U64 vector of `count` + 1 offsets: from 0, non-decreasing, ending at `total` (at anything when nil).
    public func offsets(_ name: String, count: Int?, total: Int?) throws(BundleError) -> [Int] {
        let (file, entry) = try vectorEntry(name, count: count.map { $0 + 1 })
        guard entry.type == .u64 else { throw refuse(file, name, "U64", entry.type.rawValue) }
        let raw = file.bytes.withElements(UInt64.self, in: entry.range) { array($0) }
        guard let last = raw.last, raw.first == 0 else {
            throw refuse(file, name, "offsets from 0", "\(raw.first.map { "\($0)" } ?? "none")")
        }
        var previous: UInt64 = 0
        for value in raw {
            guard value >= previous else {
                throw refuse(file, name, "non-decreasing offsets", "\(value) after \(previous)")
            }
            previous = value
        }
        guard let end = Int(exactly: last), total == nil || end == total else {
            throw refuse(file, name, "a last offset of \(total ?? Int.max)", "\(last)")
        }
        return raw.map { Int($0) }
    }

    /// The strings of `<name>.bytes` and `<name>.offsets`; of any number when `count` is nil.
    public func strings(_ name: String, count: Int?) throws(BundleError) -> StringList {
        let bytes = try bytes(name + ".bytes", count: nil)
        let offsets = try offsets(name + ".offsets", count: count, total: bytes.count)
        for i in 1..<offsets.count {
            guard String(validating: bytes[offsets[i - 1]..<offsets[i]], as: UTF8.self) != nil else {
                let (file, _) = try entry(name + ".bytes")
                throw refuse(file, name + ".bytes", "UTF-8", "other bytes in string \(i - 1)")
            }
        }
        return StringList(bytes: bytes, offsets: offsets)
    }

    // MARK: Entries

    private func entry(_ name: String) throws(BundleError) -> (SafeTensors, TensorEntry) {
        guard let place = places[name] else {
            throw BundleError(
                file: firstFile, tensor: name, expected: "this tensor", found: "none of that name")
        }
        read.insert(name)
        return place
    }

    private func vectorEntry(_ name: String, count: Int?) throws(BundleError) -> (SafeTensors, TensorEntry) {
        let (file, entry) = try entry(name)
        guard entry.shape.count == 1, count == nil || entry.shape[0] == count else {
            throw refuse(file, name, "shape [\(count.map(String.init) ?? "any")]", "\(entry.shape)")
        }
        return (file, entry)
    }

    private func refuse(_ file: SafeTensors, _ name: String, _ expected: String, _ found: String)
        -> BundleError
    {
        BundleError(file: file.file, tensor: name, expected: expected, found: found)
    }
}

private func array<Element: BitwiseCopyable>(_ span: Span<Element>) -> [Element] {
    var values: [Element] = []
    values.reserveCapacity(span.count)
    for i in 0..<span.count { values.append(span[i]) }
    return values
}

private func copy(_ source: Span<Float>, to target: inout MutableSpan<Float>) {
    precondition(source.count == target.count, "\(source.count) into \(target.count)")
    unsafe source.withUnsafeBufferPointer { from in
        unsafe target.withUnsafeMutableBufferPointer { to in
            // SAFETY: both hold `source.count` floats.
            if let a = from.baseAddress, let b = to.baseAddress {
                unsafe b.update(from: a, count: from.count)
            }
        }
    }
}
