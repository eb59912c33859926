/// What a delta does to one tensor of its base, in rows of the first axis.
private struct TensorEdit {
    var rows: BundleTensors.Place?
    var values: BundleTensors.Place?
    var appended: BundleTensors.Place?
}

extension BundleTensors {
    private static let patch = "patch."
    private static let append = "append."

    /// A base's tensors under a delta's (ModelFormat.md §5): replaced, patched and lengthened ones are the
    /// delta's, the others the base's.
    /// - Parameter manifest: what to call the delta's manifest in errors.
    convenience init(base: BundleTensors, delta: BundleTensors, removed: [String], manifest: String)
        throws(BundleError)
    {
        var places: [String: Place] = [:]
        for name in base.names { places[name] = base.place(name) }
        for name in removed where places.removeValue(forKey: name) == nil {
            throw BundleError(
                file: manifest, tensor: "/removed", expected: "tensors of the base", found: name)
        }
        let removed = Set(removed)
        var edits: [String: TensorEdit] = [:]
        for name in delta.names {
            guard let place = delta.place(name) else { continue }
            if let (target, part) = Self.edited(name) {
                edits[target, default: TensorEdit()][keyPath: part] = place
            } else if removed.contains(name) {
                throw BundleError(
                    file: place.file.file, tensor: name, expected: "a tensor that is replaced or removed",
                    found: "both")
            } else {
                places[name] = place
            }
        }
        for (name, edit) in edits.sorted(by: { $0.key < $1.key }) {
            guard !delta.contains(name), !removed.contains(name) else {
                throw Self.refuse(
                    edit, name, "a tensor of the base that stays", "one that is replaced or removed")
            }
            guard let old = base.place(name) else {
                throw Self.refuse(edit, name, "a tensor \(name) in the base", "none of that name")
            }
            places[name] = try Self.edited(old, name, edit)
        }
        self.init(places: places, firstFile: delta.names.first.flatMap(delta.place)?.file.file ?? manifest)
    }

    /// The base's tensor that a delta's tensor edits, and the part it is of the edit; nil for a tensor in its
    /// own right.
    private static func edited(_ name: String) -> (String, WritableKeyPath<TensorEdit, Place?>)? {
        if name.hasPrefix(append) { return (String(name.dropFirst(append.count)), \.appended) }
        guard name.hasPrefix(patch) else { return nil }
        for (suffix, part) in [(".rows", \TensorEdit.rows), (".values", \TensorEdit.values)]
        where name.hasSuffix(suffix) && name.count > patch.count + suffix.count {
            return (String(name.dropFirst(patch.count).dropLast(suffix.count)), part)
        }
        return nil
    }

    private static func edited(_ old: Place, _ name: String, _ edit: TensorEdit) throws(BundleError) -> Place
    {
        guard let oldRows = old.entry.shape.first else {
            throw refuse(edit, name, "a tensor of rank 1 or more in the base", "a single value")
        }
        var pieces: [FileBytes.Piece] = [(old.file.bytes, old.entry.range, 0)]
        if edit.rows != nil || edit.values != nil {
            pieces += try patches(old, oldRows, name, edit)
        }
        var rows = oldRows
        var size = old.entry.range.count
        if let appended = edit.appended {
            try check(appended, append + name, like: old)
            let (sum, overflow) = oldRows.addingReportingOverflow(appended.entry.shape[0])
            guard !overflow else {
                throw refuse(appended, append + name, "rows that can be counted", "\(appended.entry.shape)")
            }
            pieces.append((appended.file.bytes, appended.entry.range, size))
            rows = sum
            size += appended.entry.range.count
        }
        let blamed = (edit.appended ?? edit.values ?? old).file.file
        let entry = TensorEntry(
            type: old.entry.type, shape: [rows] + old.entry.shape.dropFirst(), range: 0..<size)
        return (SafeTensors(file: blamed, tensor: name, entry, FileBytes(count: size, pieces: pieces)), entry)
    }

    /// The rows that take the place of the base's.
    private static func patches(_ old: Place, _ oldRows: Int, _ name: String, _ edit: TensorEdit)
        throws(BundleError) -> [FileBytes.Piece]
    {
        let rowsName = patch + name + ".rows"
        let valuesName = patch + name + ".values"
        guard let rows = edit.rows, let values = edit.values else {
            let (missing, other) = edit.rows == nil ? (rowsName, edit.values) : (valuesName, edit.rows)
            throw BundleError(
                file: other?.file.file ?? "", tensor: missing, expected: "this tensor",
                found: "none of that name")
        }
        guard rows.entry.type == .u32, rows.entry.shape.count == 1 else {
            throw refuse(
                rows, rowsName, "U32 of rank 1", "\(rows.entry.type.rawValue) \(rows.entry.shape)")
        }
        try check(values, valuesName, like: old)
        guard values.entry.shape[0] == rows.entry.count else {
            throw refuse(values, valuesName, "\(rows.entry.count) rows", "\(values.entry.shape[0])")
        }
        guard rows.entry.count > 0 else { return [] }
        let rowSize = values.entry.range.count / rows.entry.count
        let numbers = rows.file.bytes.withElements(UInt32.self, in: rows.entry.range) { span in
            (0..<span.count).map { Int(span[$0]) }
        }
        var pieces: [FileBytes.Piece] = []
        var least = 0
        for (index, row) in numbers.enumerated() {
            guard row >= least, row < oldRows else {
                throw refuse(rows, rowsName, "rising rows from \(least) to below \(oldRows)", "\(row)")
            }
            least = row + 1
            let start = values.entry.range.lowerBound + index * rowSize
            pieces.append((values.file.bytes, start..<start + rowSize, row * rowSize))
        }
        return pieces
    }

    /// Rows of a delta have the type and the width of the base's.
    private static func check(_ place: Place, _ name: String, like old: Place) throws(BundleError) {
        let (new, old) = (place.entry, old.entry)
        guard new.type == old.type, new.shape.count == old.shape.count,
            new.shape.dropFirst() == old.shape.dropFirst()
        else {
            let width = old.shape.dropFirst().map { ", \($0)" }.joined()
            throw refuse(
                place, name, "\(old.type.rawValue) [rows\(width)] as in the base",
                "\(new.type.rawValue) \(new.shape)")
        }
    }

    private static func refuse(_ place: Place, _ name: String, _ expected: String, _ found: String)
        -> BundleError
    {
        BundleError(file: place.file.file, tensor: name, expected: expected, found: found)
    }

    /// Blames an edit's first tensor.
    private static func refuse(_ edit: TensorEdit, _ name: String, _ expected: String, _ found: String)
        -> BundleError
    {
        let parts = [(append + name, edit.appended), (patch + name + ".rows", edit.rows)]
        let (tensor, place) = parts.first { $0.1 != nil } ?? (patch + name + ".values", edit.values)
        return BundleError(
            file: place?.file.file ?? "", tensor: tensor, expected: expected, found: found)
    }
}
