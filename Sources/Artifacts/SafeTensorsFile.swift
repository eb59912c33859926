internal import COpenSSL
internal import Glibc
internal import JSON

/// A safetensors file written piece by piece, its digest taken on the way: for tables larger than one would
/// hold in memory twice.
///
/// Name the tensors first, then append their values in that order, then `finish`. For one thread.
@safe public final class SafeTensorsFile {
    /// What is known of a tensor before its values.
    public struct Tensor: Sendable {
        let name: String
        let type: TensorEntry.DataType
        let shape: [Int]

        var byteCount: Int { shape.reduce(type.size, *) }

        /// Values of `Float`.
        public static func f32(_ name: String, _ shape: [Int]) -> Tensor { .init(name, .f32, shape) }
        /// Bit patterns of halves, as `UInt16`.
        public static func f16(_ name: String, _ shape: [Int]) -> Tensor { .init(name, .f16, shape) }
        /// Values of `Double`.
        public static func f64(_ name: String, _ count: Int) -> Tensor { .init(name, .f64, [count]) }
        /// Values of `UInt64`.
        public static func u64(_ name: String, _ count: Int) -> Tensor { .init(name, .u64, [count]) }
        /// Values of `UInt32`.
        public static func u32(_ name: String, _ count: Int) -> Tensor { .init(name, .u32, [count]) }
        /// Values of `UInt8`.
        public static func u8(_ name: String, _ count: Int) -> Tensor { .init(name, .u8, [count]) }

        private init(_ name: String, _ type: TensorEntry.DataType, _ shape: [Int]) {
            self.name = name
            self.type = type
            self.shape = shape
        }
    }

    private let name: String
    private let descriptor: Int32
    private let digest: OpaquePointer
    private let tensors: [Tensor]
    private var written = 0
    /// Bytes of `tensors[position]` still to come.
    private var position = 0
    private var missing = 0

    /// Creates or replaces the file at `path` and writes its header.
    ///
    /// `tensors` go by falling element size, so that each is aligned without gaps; traps otherwise.
    /// - Parameter name: what to call it in errors.
    public init(path: String, name: String, tensors: [Tensor]) throws(BundleError) {
        precondition(
            zip(tensors, tensors.dropFirst()).allSatisfy { $0.type.size >= $1.type.size },
            "\(name): tensors not by falling element size")
        self.name = name
        self.tensors = tensors
        descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard let context = unsafe EVP_MD_CTX_new() else {
            preconditionFailure("OpenSSL has no memory for a digest")
        }
        unsafe digest = context
        guard descriptor >= 0 else { throw failure("open") }
        guard unsafe EVP_DigestInit_ex(digest, EVP_sha256(), nil) == 1 else { throw failure("digest") }
        try put(Self.header(tensors.map { ($0.name, $0.type, $0.shape, $0.byteCount) }))
        missing = tensors.first?.byteCount ?? 0
        skipComplete()
    }

    deinit {
        unsafe EVP_MD_CTX_free(digest)
        if descriptor >= 0 { close(descriptor) }
    }

    /// Appends values to the tensor at hand; traps on another element size or more than its shape has.
    public func append<Value: BitwiseCopyable>(_ values: [Value]) throws(BundleError) {
        guard !values.isEmpty else { return }
        let size = MemoryLayout<Value>.stride
        precondition(position < tensors.count, "\(name): values after the last tensor")
        let tensor = tensors[position]
        precondition(
            tensor.type.size == size && values.count * size <= missing,
            "\(tensor.name): \(values.count) values of \(size) bytes where \(missing) bytes are missing")
        try put(values)
        missing -= values.count * size
        skipComplete()
    }

    /// Ends the file, which must be complete.
    /// - Returns: 64 lower-case hexadecimal digits, and the size, for the manifest.
    public func finish() throws(BundleError) -> (sha256: String, byteCount: Int) {
        precondition(position == tensors.count, "\(name): \(missing) bytes of a tensor are missing")
        var bytes = [UInt8](repeating: 0, count: 32)
        let status = unsafe bytes.withUnsafeMutableBufferPointer {
            // SAFETY: a SHA-256 has 32 bytes, the size of `bytes`.
            unsafe EVP_DigestFinal_ex(digest, $0.baseAddress, nil)
        }
        guard status == 1, fsync(descriptor) == 0 else { throw failure("finish") }
        return (Digest.hex(bytes), written)
    }

    private func skipComplete() {
        while position < tensors.count, missing == 0 {
            position += 1
            missing = position < tensors.count ? tensors[position].byteCount : 0
        }
    }

    private func put<Value: BitwiseCopyable>(_ values: [Value]) throws(BundleError) {
        let isWritten = unsafe values.withUnsafeBytes { source in
            guard unsafe EVP_DigestUpdate(digest, source.baseAddress, source.count) == 1 else { return false }
            var done = 0
            while done < source.count {
                // SAFETY: the buffer holds `source.count` bytes and is alive during the call.
                let count = unsafe Glibc.write(
                    descriptor, source.baseAddress.map { unsafe $0 + done }, source.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
        guard isWritten else { throw failure("write") }
        written += values.count * MemoryLayout<Value>.stride
    }

    private func failure(_ step: String) -> BundleError {
        BundleError(file: name, expected: "\(step) to succeed", found: FileBytes.reason())
    }

    /// The length and the JSON header, padded to a multiple of 8, of tensors that follow end to end.
    static func header(
        _ tensors: [(name: String, type: TensorEntry.DataType, shape: [Int], byteCount: Int)]
    ) -> [UInt8] {
        var json = JSONWriter(capacity: 96 * tensors.count)
        var offset = 0
        json.beginObject()
        for tensor in tensors {
            json.key(tensor.name)
            json.beginObject()
            json.key("dtype")
            json.value(tensor.type.rawValue)
            json.key("shape")
            json.beginArray()
            for extent in tensor.shape { json.value(extent) }
            json.endArray()
            json.key("data_offsets")
            json.beginArray()
            json.value(offset)
            offset += tensor.byteCount
            json.value(offset)
            json.endArray()
            json.endObject()
        }
        json.endObject()
        var text = json.bytes
        while text.count % 8 != 0 { text.append(0x20) }
        let length = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
        return length + text
    }
}
