/// Row-major float matrices: frozen ones for weights and tables, mutable ones for one thread's scratch, and
/// views of both.

/// 64-byte aligned memory for `count` floats, zeroed; freed with its owner, or given back to the pool that
/// lent it.
@safe final class FloatStorage {
    let base: UnsafeMutablePointer<Float>
    let count: Int
    private let loan: KeyValuePool.Loan?
    var pool: KeyValuePool? { loan?.pool }

    init(count: Int) {
        precondition(count >= 0, "negative float count \(count)")
        // 64: one cache line, and the widest vector load. Never zero bytes, so that `base` is always a real
        // pointer.
        let raw = UnsafeMutableRawPointer.allocate(byteCount: max(64, count * 4), alignment: 64)
        unsafe base = raw.bindMemory(to: Float.self, capacity: max(16, count))
        unsafe base.initialize(repeating: 0, count: max(16, count))
        self.count = count
        loan = nil
    }

    /// The memory of a pool's slot, which has room for `count` floats.
    init(_ loan: KeyValuePool.Loan, count: Int) {
        unsafe base = loan.base.bindMemory(to: Float.self, capacity: count)
        // SAFETY: a slot is lent to one owner at a time. Memory straight from the system is zero already.
        if loan.isUsed { unsafe base.initialize(repeating: 0, count: count) }
        self.count = count
        self.loan = loan
    }

    deinit {
        if let loan { loan.pool.takeBack(loan) } else { unsafe base.deallocate() }
    }
}

/// A frozen row-major matrix: model weights, embedding tables, biases (one row).
///
/// Shape `[rows, columns]`; written only while it is made, then shared by all threads.
@safe public final class Matrix: @unchecked Sendable {
    // @unchecked Sendable: frozen, nothing writes to `storage` after init.
    let storage: FloatStorage
    /// Rows, ≥ 0.
    public let rows: Int
    /// Floats in a row, ≥ 0.
    public let columns: Int

    /// A matrix whose memory `fill` writes, row by row end to end, `rows · columns` floats.
    public init<E: Error>(rows: Int, columns: Int, fill: (inout MutableSpan<Float>) throws(E) -> Void)
        throws(E)
    {
        precondition(rows >= 0 && columns >= 0, "shape [\(rows), \(columns)]")
        storage = FloatStorage(count: rows * columns)
        self.rows = rows
        self.columns = columns
        // SAFETY: `storage` is alive for the whole initialiser and not shared yet.
        let buffer = unsafe UnsafeMutableBufferPointer(start: storage.base, count: rows * columns)
        var span = unsafe buffer.mutableSpan
        try fill(&span)
    }

    /// A matrix with a copy of `values`, row by row; traps unless there are `rows · columns` of them.
    public convenience init(rows: Int, columns: Int, values: [Float]) {
        precondition(values.count == rows * columns, "\(values.count) values for [\(rows), \(columns)]")
        self.init(rows: rows, columns: columns) { span in
            for i in 0..<values.count { span[i] = values[i] }
        }
    }

    /// All rows and columns.
    public var view: MatrixView { view(rows: 0..<rows) }

    /// The given rows, all columns; traps when out of range.
    public func view(rows range: Range<Int>) -> MatrixView { view(rows: range, columns: 0..<columns) }

    /// A rectangle; traps when out of range.
    public func view(rows range: Range<Int>, columns columnRange: Range<Int>) -> MatrixView {
        MatrixView(storage, stride: columns, limit: rows, rows: range, columns: columnRange)
    }

    /// One element; traps when out of range.
    public subscript(row: Int, column: Int) -> Float { view[row, column] }

    /// A copy of one row.
    public func copyRow(_ row: Int) -> [Float] { view(rows: row..<row + 1).copy() }

    /// Whether every element is finite.
    public var isFinite: Bool { view.isFinite }
}

/// A mutable row-major matrix: scratch that belongs to one thread, allocated once and reused.
@safe public final class MutableMatrix {
    let storage: FloatStorage
    /// Rows, ≥ 0.
    public let rows: Int
    /// Floats in a row, ≥ 0.
    public let columns: Int

    /// A zeroed matrix of shape `[rows, columns]`.
    public init(rows: Int, columns: Int) {
        precondition(rows >= 0 && columns >= 0, "shape [\(rows), \(columns)]")
        storage = FloatStorage(count: rows * columns)
        self.rows = rows
        self.columns = columns
    }

    /// All rows and columns.
    public var view: MutableMatrixView { view(rows: 0..<rows) }

    /// The given rows, all columns; traps when out of range.
    public func view(rows range: Range<Int>) -> MutableMatrixView { view(rows: range, columns: 0..<columns) }

    /// A rectangle; traps when out of range.
    public func view(rows range: Range<Int>, columns columnRange: Range<Int>) -> MutableMatrixView {
        MutableMatrixView(
            MatrixView(storage, stride: columns, limit: rows, rows: range, columns: columnRange))
    }

    /// One element; traps when out of range.
    public subscript(row: Int, column: Int) -> Float {
        get { view.reading[row, column] }
        set { view[row, column] = newValue }
    }

    /// A copy of one row.
    public func copyRow(_ row: Int) -> [Float] { view(rows: row..<row + 1).reading.copy() }
}

/// A read-only rectangle of a matrix, which it keeps alive: `rows` rows of `columns` floats, `stride` apart.
@safe public struct MatrixView {
    let storage: FloatStorage
    let base: UnsafeMutablePointer<Float>
    /// Rows, ≥ 0.
    public let rows: Int
    /// Floats in a row, ≥ 0.
    public let columns: Int
    let stride: Int

    init(_ storage: FloatStorage, stride: Int, limit: Int, rows: Range<Int>, columns: Range<Int>) {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= limit, "rows \(rows) of \(limit)")
        precondition(
            columns.lowerBound >= 0 && columns.upperBound <= stride, "columns \(columns) of \(stride)")
        self.storage = storage
        unsafe base = storage.base + (rows.lowerBound * stride + columns.lowerBound)
        self.rows = rows.count
        self.columns = columns.count
        self.stride = stride
    }

    /// One element; traps when out of range.
    public subscript(row: Int, column: Int) -> Float {
        precondition(
            row >= 0 && row < rows && column >= 0 && column < columns,
            "[\(row), \(column)] of [\(rows), \(columns)]")
        return unsafe base[row * stride + column]
    }

    /// The elements, row by row.
    public func copy() -> [Float] {
        var values: [Float] = []
        values.reserveCapacity(rows * columns)
        for row in 0..<rows { withRow(row) { span in for i in 0..<columns { values.append(span[i]) } } }
        return values
    }

    /// Calls `body` with one row of `columns` floats; traps when out of range.
    @inlinable
    public func withRow<Result>(_ row: Int, _ body: (Span<Float>) -> Result) -> Result {
        // SAFETY: the row is inside the storage, which `self` keeps alive to the end.
        defer { withExtendedLifetime(self) {} }
        return body(unsafe UnsafeBufferPointer(start: pointer(row: row), count: columns).span)
    }

    /// Whether every element is finite.
    public var isFinite: Bool {
        for row in 0..<rows where unsafe !Kernel.isFinite(pointer(row: row), columns) { return false }
        return true
    }

    @usableFromInline
    @unsafe func pointer(row: Int) -> UnsafePointer<Float> {
        precondition(row >= 0 && row < rows, "row \(row) of \(rows)")
        return unsafe UnsafePointer(base + row * stride)
    }
}

/// A writable rectangle of a scratch matrix.
@safe public struct MutableMatrixView {
    /// The same rectangle, read-only.
    public let reading: MatrixView

    /// Rows, ≥ 0.
    public var rows: Int { reading.rows }
    /// Floats in a row, ≥ 0.
    public var columns: Int { reading.columns }
    var stride: Int { reading.stride }

    init(_ view: MatrixView) { reading = view }

    /// One element; traps when out of range.
    public subscript(row: Int, column: Int) -> Float {
        get { reading[row, column] }
        nonmutating set {
            precondition(column >= 0 && column < columns, "column \(column) of \(columns)")
            unsafe pointer(row: row)[column] = newValue
        }
    }

    /// Calls `body` with one writable row of `columns` floats; traps when out of range.
    @inlinable
    public func withRow<Result>(_ row: Int, _ body: (inout MutableSpan<Float>) -> Result) -> Result {
        // SAFETY: the row is inside the storage, which `self` keeps alive to the end; scratch belongs to one
        // thread.
        defer { withExtendedLifetime(self) {} }
        var span = unsafe UnsafeMutableBufferPointer(start: pointer(row: row), count: columns).mutableSpan
        return body(&span)
    }

    @usableFromInline
    @unsafe func pointer(row: Int) -> UnsafeMutablePointer<Float> {
        precondition(row >= 0 && row < rows, "row \(row) of \(rows)")
        return unsafe reading.base + row * stride
    }
}
