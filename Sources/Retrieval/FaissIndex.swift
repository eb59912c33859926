public import Artifacts
internal import CFaiss
public import Kernels

/// An inverted file of product-quantised codes by FAISS (Jégou et al. 2011): approximate rows and scores.
///
/// Frozen once made; searches from several threads at once are safe. Wrap it in a `RerankedIndex` for exact
/// scores.
@safe public final class FaissIndex: VectorIndex, @unchecked Sendable {
    // @unchecked Sendable: frozen, FAISS only reads an index while it searches.
    private let handle: OpaquePointer

    /// The metric of the table it was made of.
    public let metric: Metric
    /// Columns of a vector.
    public var dimension: Int { Int(clamping: unsafe CFaiss_index_dimension(handle)) }
    /// Vectors in the index.
    public var count: Int { Int(clamping: unsafe CFaiss_index_count(handle)) }
    /// Lists of the inverted file; 0 when FAISS keeps the vectors themselves.
    public var lists: Int { Int(clamping: unsafe CFaiss_index_lists(handle)) }

    /// How an index is trained; these values find as much as FAISS's defaults and take a tenth of their time.
    public struct Training: Sendable {
        /// Training vectors per list.
        public var samplesPerList = 40
        /// Rounds of k-means for the lists.
        public var listIterations = 6
        /// Rounds of k-means for the codebooks.
        public var codeIterations = 8
        /// Most training vectors per centroid.
        public var pointsPerCentroid = 64
        /// Of the sample and of k-means.
        public var seed: UInt32 = 1

        /// The values above.
        public init() {}
    }

    /// Progress of a build, for its callback.
    public enum Progress: Sendable, Equatable {
        case training(vectors: Int)
        case adding(done: Int, of: Int)
    }

    /// Rows added per call, between which progress is told.
    static let addSlice = 65_536
    /// Fewest training vectors, for codebooks of 256 centroids and more.
    static let sampleMinimum = 16_384

    /// Trains and fills an index over the rows of `table`.
    ///
    /// Same table, same settings, same index. Throws `.faiss` for parameters that do not fit, such as more
    /// lists than rows.
    public init(
        _ table: VectorTable, configuration: IndexConfiguration, training: Training = Training(),
        progress: (Progress) -> Void = { _ in }
    ) throws(RetrievalError) {
        let metric = table.metric
        var made: OpaquePointer?
        try unsafe Self.call("create") { message, capacity in
            unsafe CFaiss_index_create(
                Int32(configuration.kind == .flat ? CFaiss_kind_flat : CFaiss_kind_ivfpq), Self.code(metric),
                Self.size(table.dimension), Self.size(configuration.lists),
                Self.size(configuration.subquantizers),
                Self.size(configuration.bits), &made, message, capacity)
        }
        guard let made = unsafe made else { throw .faiss(call: "create", reason: "no index") }
        // SAFETY: freed by deinit, which also runs when this initialiser throws later on.
        unsafe handle = made
        self.metric = metric
        if configuration.kind == .ivfpq {
            try train(
                table, lists: configuration.lists, bits: configuration.bits, training: training,
                progress: progress)
        }
        try add(table, progress: progress)
    }

    private func train(
        _ table: VectorTable, lists: Int, bits: Int, training: Training, progress: (Progress) -> Void
    ) throws(RetrievalError) {
        let wanted = max(
            Self.sampleMinimum,
            lists.multipliedReportingOverflow(by: max(1, training.samplesPerList)).partialValue,
            64 << min(max(bits, 1), 16))
        let sample = Self.sample(table, count: wanted, seed: training.seed)
        progress(.training(vectors: sample.rows))
        try unsafe Self.call("train") { message, capacity in
            sample.withRows(0..<sample.rows) { span in
                unsafe span.withUnsafeBufferPointer { floats in
                    unsafe CFaiss_index_train(
                        handle, floats.count / max(1, sample.columns), floats.baseAddress,
                        Int32(clamping: training.listIterations), Int32(clamping: training.codeIterations),
                        Int32(clamping: training.pointsPerCentroid),
                        Int32(bitPattern: training.seed & 0x7FFF_FFFF),
                        message, capacity)
                }
            }
        }
    }

    private func add(_ table: VectorTable, progress: (Progress) -> Void) throws(RetrievalError) {
        var start = 0
        while start < table.count {
            let end = min(start + Self.addSlice, table.count)
            let slice = table.encodable(start..<end)
            try unsafe Self.call("add") { message, capacity in
                slice.withRows(0..<slice.rows) { span in
                    unsafe span.withUnsafeBufferPointer { floats in
                        unsafe CFaiss_index_add(handle, end - start, floats.baseAddress, message, capacity)
                    }
                }
            }
            progress(.adding(done: end, of: table.count))
            start = end
        }
    }

    /// Reads an index written by `bytes()` or by FAISS itself: IVFPQ or Flat over `count` vectors of
    /// `dimension`.
    ///
    /// FAISS does not survive every damaged file, so the caller has verified a digest of `bytes` first.
    public init(
        verified bytes: [UInt8], metric: Metric, dimension: Int, count: Int
    ) throws(RetrievalError) {
        var made: OpaquePointer?
        try unsafe Self.call("read") { message, capacity in
            unsafe bytes.withUnsafeBufferPointer { source in
                unsafe CFaiss_index_read(source.baseAddress, source.count, &made, message, capacity)
            }
        }
        guard let made = unsafe made else { throw .faiss(call: "read", reason: "no index") }
        // SAFETY: freed by deinit, which also runs when this initialiser throws later on.
        unsafe handle = made
        self.metric = metric
        guard self.dimension == dimension else {
            throw .dimensionMismatch(expected: dimension, found: self.dimension)
        }
        guard self.count == count else {
            throw .invalidIndex(expected: "\(count) vectors", found: "\(self.count)")
        }
        guard unsafe CFaiss_index_metric(handle) == Self.code(metric) else {
            throw .invalidIndex(expected: "metric \(metric.rawValue)", found: "another metric")
        }
    }

    deinit { unsafe CFaiss_index_free(handle) }

    /// The index as bytes, in FAISS's own format; it carries no checksum.
    public func bytes() throws(RetrievalError) -> [UInt8] {
        var start: UnsafeMutablePointer<UInt8>?
        var count = 0
        try unsafe Self.call("write") { message, capacity in
            unsafe CFaiss_index_write(handle, &start, &count, message, capacity)
        }
        defer { unsafe CFaiss_bytes_free(start) }
        // SAFETY: the shim gave `count` bytes at `start`, ours until they are freed here.
        return unsafe [UInt8](UnsafeBufferPointer(start: start, count: count))
    }

    /// The best `k` rows by their codes; scores are approximate and ordered as such.
    public func search(
        _ query: MatrixView, k: Int, settings: SearchSettings, into neighbors: NeighborBuffer
    ) throws(RetrievalError) {
        neighbors.clear()
        let found = try gather(query, k: k, probes: settings.probes, into: neighbors)
        neighbors.take(found)
        neighbors.finish(keeping: found)
    }

    /// Writes the best `k` rows to the buffer's `rows`, unsorted as neighbours, with approximate `scores`.
    /// - Returns: how many there are.
    func gather(
        _ query: MatrixView, k: Int, probes: Int, into neighbors: NeighborBuffer
    ) throws(RetrievalError) -> Int {
        guard query.columns == dimension, query.rows == 1 else {
            throw .dimensionMismatch(expected: dimension, found: query.columns)
        }
        guard query.isFinite else { throw .notFinite }
        let k = min(k, count)
        guard k > 0 else { return 0 }
        neighbors.reserve(k)
        try unsafe Self.call("search") { message, capacity in
            query.withRow(0) { floats in
                unsafe floats.withUnsafeBufferPointer { floats in
                    unsafe neighbors.scores.withUnsafeMutableBufferPointer { scores in
                        unsafe neighbors.labels.withUnsafeMutableBufferPointer { labels in
                            // SAFETY: both hold at least `k` entries, the query `dimension` floats.
                            unsafe CFaiss_index_search(
                                handle, floats.baseAddress, k, Self.size(probes), scores.baseAddress,
                                labels.baseAddress, message, capacity)
                        }
                    }
                }
            }
        }
        return neighbors.takeLabels(k, below: count, negated: metric == .l2)
    }

    /// Threads that FAISS may use in calls from this thread from now on: 1 for compute threads, more for a
    /// build.
    public static func setThreads(_ count: Int) { CFaiss_set_threads(Int32(clamping: count)) }

    // MARK: - The C side

    private static func code(_ metric: Metric) -> Int32 {
        // Vectors of a cosine table have norm 1, so that the inner product is the cosine.
        Int32(metric == .l2 ? CFaiss_metric_l2 : CFaiss_metric_inner_product)
    }

    /// A count from outside; negative ones become 0, which the shim refuses.
    private static func size(_ value: Int) -> Int { max(0, value) }

    private static func call(
        _ name: String, _ body: (UnsafeMutablePointer<CChar>?, Int) -> Int32
    ) throws(RetrievalError) {
        // 512: FAISS's messages name function, file and condition.
        var message = [CChar](repeating: 0, count: 512)
        let status = unsafe message.withUnsafeMutableBufferPointer { unsafe body($0.baseAddress, $0.count) }
        guard status != CFaiss_ok else { return }
        let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        throw .faiss(call: name, reason: String(decoding: text, as: UTF8.self))
    }

    /// `count` different rows in ascending order, each equally likely (Knuth's algorithm S); all when there
    /// are no more.
    private static func sample(_ table: VectorTable, count: Int, seed: UInt32) -> Matrix {
        guard count < table.count else { return table.encodable(0..<table.count) }
        var random = SplitMix(state: UInt64(seed))
        let columns = table.dimension
        var chosen = 0
        return Matrix(rows: count, columns: columns) { target in
            for row in 0..<table.count where chosen < count {
                guard Int.random(in: 0..<table.count - row, using: &random) < count - chosen else { continue }
                let factor = table.metric == .cosine ? table.inverseNorms?[0, row] ?? 1 : 1
                table.vectors.view.withRow(row) { source in
                    for i in 0..<columns { target[chosen * columns + i] = source[i] * factor }
                }
                chosen += 1
            }
        }
    }
}
