import Glibc

/// Bytes that end right before an unreadable page: reading one byte too far crashes the test.
@safe
public final class GuardedBuffer {
    private let pages: UnsafeMutableRawPointer
    private let mappedByteCount: Int
    private let start: Int
    private let count: Int

    /// A copy of `bytes`, its last byte at the end of a page.
    public init(_ bytes: [UInt8]) {
        let page = sysconf(Int32(_SC_PAGESIZE))
        let readable = max((bytes.count + page - 1) / page, 1) * page
        mappedByteCount = readable + page
        let mapped = unsafe mmap(
            nil, mappedByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED else {
            preconditionFailure("mmap failed")
        }
        start = readable - bytes.count
        count = bytes.count
        unsafe pages = mapped
        // SAFETY: `start + count` is `readable`, inside the mapping; the page behind it is made unreadable.
        for (offset, byte) in bytes.enumerated() {
            unsafe mapped.storeBytes(of: byte, toByteOffset: start + offset, as: UInt8.self)
        }
        let status = unsafe mprotect(mapped + readable, page, PROT_NONE)
        precondition(status == 0, "mprotect failed")
    }

    deinit {
        // SAFETY: mapped in init and owned by this object alone.
        unsafe munmap(pages, mappedByteCount)
    }

    /// Runs `body` with the bytes; the span must not outlive the call.
    public func withSpan<Result>(_ body: (Span<UInt8>) throws -> Result) rethrows -> Result {
        // SAFETY: the bytes stay mapped while self is alive, which is at least as long as the call.
        let typed = unsafe (pages + start).assumingMemoryBound(to: UInt8.self)
        let buffer = unsafe UnsafeBufferPointer(start: typed, count: count)
        return try withExtendedLifetime(self) { try body(unsafe buffer.span) }
    }
}
