public import Kernels

/// Collects tensors and writes them as one safetensors file: for benchmarks' bundles and for tests.
public struct SafeTensorsWriter {
    private var tensors: [(name: String, type: TensorEntry.DataType, shape: [Int], bytes: [UInt8])] = []

    /// A file without tensors.
    public init() {}

    /// An F32 matrix of its own shape.
    public mutating func add(_ name: String, _ matrix: Matrix) {
        add(name, floats: matrix.view.copy(), shape: [matrix.rows, matrix.columns])
    }

    /// An F32 tensor of any shape; `floats` row by row, as many as the shape has elements.
    public mutating func add(_ name: String, floats: [Float], shape: [Int]) {
        tensors.append((name, .f32, shape, Self.littleEndian(floats.map(\.bitPattern))))
    }
    /// An F64 vector.
    public mutating func add(_ name: String, doubles: [Double]) {
        tensors.append((name, .f64, [doubles.count], Self.littleEndian(doubles.map(\.bitPattern))))
    }
    /// A U32 vector.
    public mutating func add(_ name: String, unsigned32 values: [UInt32]) {
        tensors.append((name, .u32, [values.count], Self.littleEndian(values)))
    }
    /// A U64 vector.
    public mutating func add(_ name: String, unsigned64 values: [UInt64]) {
        tensors.append((name, .u64, [values.count], Self.littleEndian(values)))
    }
    /// A U8 vector.
    public mutating func add(_ name: String, bytes: [UInt8]) {
        tensors.append((name, .u8, [bytes.count], bytes))
    }

    /// A tensor of a bundle with its type, shape and bytes, under `name` or another; nothing when the bundle
    /// has none of that name.
    public mutating func copy(_ name: String, of bundle: BundleTensors, as other: String? = nil) {
        guard let place = bundle.place(name) else { return }
        let bytes = place.file.bytes.copy(place.entry.range)
        tensors.append((other ?? name, place.entry.type, place.entry.shape, bytes))
    }

    /// `<name>.bytes` and `<name>.offsets`.
    public mutating func add(_ name: String, strings: [String]) {
        var bytes: [UInt8] = []
        var offsets: [UInt64] = [0]
        for string in strings {
            bytes.append(contentsOf: string.utf8)
            offsets.append(UInt64(bytes.count))
        }
        add(name + ".bytes", bytes: bytes)
        add(name + ".offsets", unsigned64: offsets)
    }

    /// The file: header padded to a multiple of 8, data by falling alignment so that no padding is needed
    /// between tensors.
    public func file() -> [UInt8] {
        let ordered = tensors.enumerated().sorted {
            ($1.element.type.size, $0.offset) < ($0.element.type.size, $1.offset)
        }.map(\.element)
        var file = SafeTensorsFile.header(
            ordered.map { ($0.name, $0.type, $0.shape, $0.bytes.count) })
        file.reserveCapacity(file.count + ordered.reduce(0) { $0 + $1.bytes.count })
        for tensor in ordered { file.append(contentsOf: tensor.bytes) }
        return file
    }

    private static func littleEndian<Value: FixedWidthInteger>(_ values: [Value]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(values.count * MemoryLayout<Value>.size)
        for value in values {
            var rest = value
            for _ in 0..<MemoryLayout<Value>.size {
                bytes.append(UInt8(truncatingIfNeeded: rest))
                rest >>= 8
            }
        }
        return bytes
    }
}

extension BundleTensors {
    /// Tensors made in memory: matrices by name; those with one row also under the shape of a vector.
    public convenience init(matrices: [String: Matrix], vectors: [String: [Float]] = [:]) throws(BundleError)
    {
        var writer = SafeTensorsWriter()
        for (name, matrix) in matrices.sorted(by: { $0.key < $1.key }) { writer.add(name, matrix) }
        for (name, vector) in vectors.sorted(by: { $0.key < $1.key }) {
            writer.add(name, floats: vector, shape: [vector.count])
        }
        try self.init(files: [("memory.safetensors", FileBytes(writer.file()))])
    }
}
