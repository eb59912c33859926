/// Bytes received and not parsed yet. One large buffer per loop receives; a connection keeps only what is
/// left of it, so that an idle connection holds no memory here.
final class ReadBuffer {
    private var storage: [UInt8]
    private var start = 0
    private var end = 0

    /// An empty buffer with room for `capacity` bytes.
    init(capacity: Int = 0) { storage = Array(repeating: 0, count: capacity) }

    var isEmpty: Bool { start == end }
    var count: Int { end - start }

    /// Empty again, with its memory.
    func reset() {
        start = 0
        end = 0
    }

    /// Empty again, without its memory.
    func release() {
        if storage.capacity > 0 { storage = [] }
        reset()
    }

    /// Replaces the (parsed) content by what the socket has, at most the capacity.
    func receive(from socket: borrowing Socket) -> Socket.Transfer {
        reset()
        let transfer = socket.read(into: &storage)
        if case .bytes(let count) = transfer { end = count }
        return transfer
    }

    var capacity: Int { storage.count }

    /// Makes room for `capacity` bytes in an empty buffer.
    func reserve(_ capacity: Int) {
        if storage.count < capacity { storage = Array(repeating: 0, count: capacity) }
    }

    var first: UInt8? { isEmpty ? nil : storage[start] }

    /// Replaces the (parsed) content by the plaintext of what `other` holds.
    func open(_ other: ReadBuffer, by session: inout TLSSession?, output: inout [UInt8]) {
        reset()
        let storage = other.storage
        let ciphertext = storage.span.extracting(other.start..<other.end)
        end = session?.receive(ciphertext, into: &self.storage, output: &output) ?? 0
    }

    /// Appends what is left in `other`.
    func append(_ other: ReadBuffer) {
        if start > 0 {
            storage.removeSubrange(0..<start)
            end -= start
            start = 0
        }
        storage.removeSubrange(end..<storage.count)
        storage.append(contentsOf: other.storage[other.start..<other.end])
        end = storage.count
    }

    /// Drops the first `count` bytes.
    func drop(_ count: Int) {
        precondition(0...self.count ~= count, "count \(count) is not in 0...\(self.count)")
        start += count
    }

    /// The PROXY header that the bytes begin with.
    func proxyHeader() -> ProxyHeader.Outcome {
        let storage = storage
        return ProxyHeader.parse(storage.span.extracting(start..<end))
    }

    /// Whether the bytes begin with `text`; nil when they are too few to tell.
    func begins(with text: [UInt8]) -> Bool? {
        let shared = min(count, text.count)
        for position in 0..<shared where storage[start + position] != text[position] { return false }
        return shared == text.count ? true : nil
    }

    /// Lets `body` see all bytes and drops them.
    func take(_ body: (Span<UInt8>) -> Void) {
        let storage = storage
        body(storage.span.extracting(start..<end))
        reset()
    }

    /// Lets `parser` see the bytes and drops those it consumed.
    func parse(with parser: HTTP1Parser) -> HTTP1Parser.Event {
        let storage = storage
        let (event, consumed) = parser.parse(storage.span.extracting(start..<end))
        start += consumed
        return event
    }
}
