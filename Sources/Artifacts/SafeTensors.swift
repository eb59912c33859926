internal import JSON

/// One tensor's place in a safetensors file.
struct TensorEntry {
    enum DataType: String {
        case f64 = "F64", f32 = "F32", f16 = "F16", bf16 = "BF16", i64 = "I64", i32 = "I32", i8 = "I8", u64 =
            "U64", u32 = "U32", u8 = "U8"

        /// Bytes per element.
        var size: Int {
            switch self {
            case .f64, .i64, .u64: 8
            case .f32, .i32, .u32: 4
            case .f16, .bf16: 2
            case .i8, .u8: 1
            }
        }
    }

    let type: DataType
    let shape: [Int]
    /// Byte range in the file.
    let range: Range<Int>

    var count: Int { range.count / type.size }
}

/// A strict reader of the safetensors format: every length, offset, shape and alignment is checked before any
/// use.
struct SafeTensors {
    /// Largest header in bytes and most tensors a file may name.
    static let headerMaximum = 8 << 20
    static let tensorMaximum = 65_536
    static let rankMaximum = 8

    let file: String
    let bytes: FileBytes
    let entries: [String: TensorEntry]

    /// One tensor made in memory, which errors blame on `file`.
    init(file: String, tensor: String, _ entry: TensorEntry, _ bytes: FileBytes) {
        self.file = file
        self.bytes = bytes
        entries = [tensor: entry]
    }

    /// Reads the header of `bytes`; throws naming file, tensor and expectation.
    init(file: String, bytes: FileBytes) throws(BundleError) {
        self.file = file
        self.bytes = bytes
        guard bytes.count >= 8 else {
            throw BundleError(file: file, expected: "an 8-byte header length", found: "\(bytes.count) bytes")
        }
        let length = bytes.withElements(UInt64.self, in: 0..<8) { UInt64(littleEndian: $0[0]) }
        guard length <= UInt64(Self.headerMaximum), Int(length) <= bytes.count - 8 else {
            throw BundleError(
                file: file, expected: "a header of at most \(min(Self.headerMaximum, bytes.count - 8)) bytes",
                found: "\(length)")
        }
        let dataStart = 8 + Int(length)
        let header: JSONValue
        do { header = try JSONParser.parse(bytes.copy(8..<dataStart), depthMaximum: 4) } catch {
            throw BundleError(file: file, expected: "a JSON header", found: error.description)
        }
        guard case .object(let object) = header else {
            throw BundleError(file: file, expected: "a JSON object as header", found: header.typeName)
        }
        guard object.members.count <= Self.tensorMaximum + 1 else {
            throw BundleError(
                file: file, expected: "at most \(Self.tensorMaximum) tensors",
                found: "\(object.members.count)")
        }
        var entries: [String: TensorEntry] = [:]
        for member in object.members where member.name != "__metadata__" {
            entries[member.name] = try Self.entry(
                member.value, name: member.name, file: file, dataStart: dataStart, end: bytes.count)
        }
        try Self.checkCoverage(entries, file: file, dataStart: dataStart, end: bytes.count)
        self.entries = entries
    }

    private static func entry(
        _ value: JSONValue, name: String, file: String, dataStart: Int, end: Int
    ) throws(BundleError) -> TensorEntry {
        func refuse(_ expected: String, _ found: String) -> BundleError {
            BundleError(file: file, tensor: name, expected: expected, found: found)
        }
        do {
            var reader = try JSONObjectReader(value, at: "")
            let typeName = try reader.string("dtype")
            let dimensions = try reader.array("shape", maximum: rankMaximum)
            let offsets = try reader.array("data_offsets", maximum: 2)
            try reader.finish()
            guard let type = TensorEntry.DataType(rawValue: typeName) else {
                throw refuse("a dtype this format knows", typeName)
            }
            var shape: [Int] = []
            var size = type.size
            for dimension in dimensions {
                let extent = try JSONObjectReader.integer(dimension, at: "shape", in: 0...Int.max)
                shape.append(extent)
                let (product, overflow) = size.multipliedReportingOverflow(by: extent)
                if overflow { throw refuse("a shape that fits memory", "\(shape)") }
                size = product
            }
            guard offsets.count == 2 else { throw refuse("two data_offsets", "\(offsets.count)") }
            let begin = try JSONObjectReader.integer(
                offsets[0], at: "data_offsets", in: 0...(end - dataStart))
            let stop = try JSONObjectReader.integer(
                offsets[1], at: "data_offsets", in: begin...(end - dataStart))
            guard stop - begin == size else {
                throw refuse("\(size) bytes for \(typeName) \(shape)", "\(stop - begin)")
            }
            guard (dataStart + begin) % type.size == 0 else {
                throw refuse("alignment to \(type.size) bytes", "offset \(dataStart + begin)")
            }
            return TensorEntry(type: type, shape: shape, range: dataStart + begin..<dataStart + stop)
        } catch let error as BundleError {
            throw error
        } catch let error as JSONSchemaError {
            throw refuse("dtype, shape and data_offsets inside the file", error.description)
        } catch {
            throw refuse("a tensor description", "\(error)")
        }
    }

    /// The tensors cover the data section exactly: no gap, no overlap, no trailing byte.
    private static func checkCoverage(
        _ entries: [String: TensorEntry], file: String, dataStart: Int, end: Int
    ) throws(BundleError) {
        var at = dataStart
        let ordered = entries.sorted {
            ($0.value.range.lowerBound, $0.value.range.upperBound, $0.key) < (
                $1.value.range.lowerBound, $1.value.range.upperBound, $1.key
            )
        }
        for (name, entry) in ordered {
            guard entry.range.lowerBound == at else {
                throw BundleError(
                    file: file, tensor: name, expected: "data from byte \(at)",
                    found: "\(entry.range.lowerBound)")
            }
            at = entry.range.upperBound
        }
        guard at == end else {
            throw BundleError(file: file, expected: "the end of the data at byte \(at)", found: "\(end)")
        }
    }
}
