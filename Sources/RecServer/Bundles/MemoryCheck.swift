import Artifacts
import Threading

/// Whether a bundle fits into memory, asked before it is read: a process that the kernel kills serves nobody.
struct MemoryCheck {
    /// Bytes that must be left over.
    let headroom: Int
    let limits: MemoryLimits

    /// While a bundle is read its files are there beside what is made from them, which is as large or, for
    /// narrow types, larger.
    private static let factor = 2.5
    /// Bytes of an indexed item beside its code: its number, and slack in the lists.
    private static let bytesPerEntry = 16

    /// Bytes that loading a bundle takes at its height.
    static func needed(_ manifest: Manifest, fileBytes: Int) -> Int {
        let index = manifest.retrieval.index
        let code = index.kind == .ivfpq ? (index.subquantizers * index.bits + 7) / 8 + bytesPerEntry : 0
        // At most three tables are indexed: items, the sequence model's, and similar items.
        let indexes = 3.0 * Double(manifest.items.count) * Double(code)
        return Int(min(Double(fileBytes) * factor + indexes, 0x1p60))
    }

    /// The `file` of its refusals.
    static let subject = "memory"

    /// - Throws: naming what is needed, what is left, and which limit says so.
    func check(_ manifest: Manifest, fileBytes: Int) throws(BundleError) {
        guard let limit = limits.tightest else { return }
        let needed = Self.needed(manifest, fileBytes: fileBytes)
        guard needed <= limit.byteCount - headroom else {
            throw BundleError(
                file: Self.subject, expected: "\(needed) bytes and memory_headroom \(headroom)",
                found: "\(limit.byteCount) left by \(limit.name)")
        }
    }
}
