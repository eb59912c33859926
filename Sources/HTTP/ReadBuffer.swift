/// Bytes received and not parsed yet. One large buffer per loop receives; a connection keeps only what is
/// left of it, so that an idle connection holds no memory here.
struct ReadBuffer {
    private var storage: [UInt8]
    private var start = 0
    private var end = 0

    /// An empty buffer with room for `capacity` bytes.
    init(capacity: Int = 0) { storage = Array(repeating: 0, count: capacity) }

    var isEmpty: Bool { start == end }
    var count: Int { end - start }

    /// Empty again, with its memory.
    mutating func reset() {
        start = 0
        end = 0
    }

    /// Empty again, without its memory.
    mutating func release() { self = ReadBuffer() }

    /// Replaces the (parsed) content by what the socket has, at most the capacity.
    mutating func receive(from socket: borrowing Socket) -> Socket.Transfer {
        reset()
        let transfer = socket.read(into: &storage)
        if case .bytes(let count) = transfer { end = count }
        return transfer
    }

    var capacity: Int { storage.count }
    var first: UInt8? { isEmpty ? nil : storage[start] }

    /// Replaces the (parsed) content by the plaintext of what `other` holds.
    mutating func open(_ other: ReadBuffer, by session: inout TLSSession?, output: inout [UInt8]) {
        reset()
        let ciphertext = other.storage.span.extracting(other.start..<other.end)
        end = session?.receive(ciphertext, into: &storage, output: &output) ?? 0
    }

    /// Appends what is left in `other`.
    mutating func append(_ other: ReadBuffer) {
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
    mutating func drop(_ count: Int) {
        precondition(0...self.count ~= count, "count \(count) is not in 0...\(self.count)")
        start += count
    }

    /// The PROXY header that the bytes begin with.
    func proxyHeader() -> ProxyHeader.Outcome { ProxyHeader.parse(storage.span.extracting(start..<end)) }

    /// Whether the bytes begin with `text`; nil when they are too few to tell.
    func begins(with text: [UInt8]) -> Bool? {
        let shared = min(count, text.count)
        for position in 0..<shared where storage[start + position] != text[position] { return false }
        return shared == text.count ? true : nil
    }

    /// Lets `body` see all bytes and drops them.
    mutating func take(_ body: (Span<UInt8>) -> Void) {
        body(storage.span.extracting(start..<end))
        reset()
    }

    /// Lets `parser` see the bytes and drops those it consumed.
    mutating func parse(with parser: HTTP1Parser) -> HTTP1Parser.Event {
        let (event, consumed) = parser.parse(storage.span.extracting(start..<end))
        start += consumed
        return event
    }
}
