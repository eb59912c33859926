/// Bytes of one HTTP/1 connection → requests: a strict machine without I/O (RFC 9112).
///
/// Present the bytes that are not consumed yet, again with more after `.partial`. Each call ends with the
/// first complete request, the first failure (after which the connection is of no more use), or all bytes
/// seen.
struct HTTP1Parser {
    enum Event {
        case partial
        case request(HTTPRequest)
        case failure(HTTPProtocolError)
    }

    private enum State {
        case head
        case fixedBody(remaining: Int)
        case chunkedBody
    }

    private let limits: HTTPLimits
    private var state = State.head
    private var head = HTTP1Head()
    /// The bytes of the last head: memory for the next, unless a request still holds it.
    private var headBytes: [UInt8] = []
    private var request: HTTPRequest?
    private var body: [UInt8] = []
    private var chunks = ChunkedDecoder(bodyBytesMax: 0)
    private var skippedEmptyLine = false
    private var continueIsDue = false

    init(limits: HTTPLimits) { self.limits = limits }

    /// True between the end of a head and the end of its body.
    var isInBody: Bool {
        if case .head = state { false } else { true }
    }

    /// Bytes of the present body so far.
    var bodyByteCount: Int { body.count }

    /// True once for each head that asks for `100 Continue` and whose body has not begun.
    mutating func takeContinue() -> Bool {
        defer { continueIsDue = false }
        return continueIsDue && body.isEmpty && isInBody
    }

    mutating func parse(_ bytes: Span<UInt8>) -> (event: Event, consumed: Int) {
        var position = 0
        if case .head = state {
            // RFC 9112 §2.2: one empty line before the request line is forgiven.
            if !skippedEmptyLine, bytes.count > 0, bytes[0] == ASCII.carriageReturn {
                guard bytes.count > 1 else { return (.partial, 0) }
                guard bytes[1] == ASCII.lineFeed else { return (.failure(.malformedLineEnd), 0) }
                skippedEmptyLine = true
                position = 2
            }
            let start = position
            switch head.parse(bytes.extracting(start..<bytes.count), limits) {
            case .partial: return (.partial, position)
            case .failure(let failure): return (.failure(failure), position)
            case .complete(let count):
                let headSpan = bytes.extracting(start..<start + count)
                position += count
                if case .length(0) = head.framing {
                    let request = takeHead(headSpan)
                    prepareForHead()
                    return (.request(request), position)
                }
                if let failure = beginBody(headSpan) { return (.failure(failure), position) }
            }
        }
        switch state {
        case .head: break
        case .fixedBody(let remaining):
            let count = min(remaining, bytes.count - position)
            body.append(copying: bytes.extracting(position..<position + count))
            position += count
            guard count == remaining else {
                state = .fixedBody(remaining: remaining - count)
                return (.partial, position)
            }
        case .chunkedBody:
            switch chunks.decode(bytes, from: &position, into: &body, limits) {
            case .partial: return (.partial, position)
            case .failure(let failure): return (.failure(failure), position)
            case .complete: break
            }
        }
        return (finish(), position)
    }

    /// The request of a complete head, without its body; `bytes` are those of the head.
    private mutating func takeHead(_ bytes: Span<UInt8>) -> HTTPRequest {
        headBytes.removeAll(keepingCapacity: true)
        headBytes.append(copying: bytes)
        return HTTPRequest(
            method: Self.method(bytes.extracting(head.method)),
            path: head.path.isEmpty ? "/" : bytes.extracting(head.path).text,
            query: head.query.map { bytes.extracting($0).text },
            headers: HTTPHeaders(head: headBytes, fields: head.fields), peer: "", isLoopback: false,
            isKeepAlive: head.isKeepAlive, isHTTP10: head.isHTTP10)
    }

    /// The text of a method, without looking at each byte of those that are common.
    private static func method(_ bytes: Span<UInt8>) -> String {
        switch bytes.count {
        case 3 where bytes.equals("GET"): "GET"
        case 3 where bytes.equals("PUT"): "PUT"
        case 4 where bytes.equals("POST"): "POST"
        case 4 where bytes.equals("HEAD"): "HEAD"
        default: bytes.text
        }
    }

    private mutating func beginBody(_ bytes: Span<UInt8>) -> HTTPProtocolError? {
        let begun = takeHead(bytes)
        let bodyBytesMax = limits.bodyBytesMax(path: begun.path)
        switch head.framing {
        case .length(let length):
            guard length <= bodyBytesMax else { return .bodyTooLarge }
            state = .fixedBody(remaining: length)
            // 64 KiB: what one read brings; more only once it has really arrived.
            body.reserveCapacity(min(length, 65_536))
            continueIsDue = head.expectsContinue && !head.isHTTP10
        case .chunked:
            state = .chunkedBody
            chunks = ChunkedDecoder(bodyBytesMax: bodyBytesMax)
            continueIsDue = head.expectsContinue && !head.isHTTP10
        }
        request = begun
        return nil
    }

    private mutating func finish() -> Event {
        guard var finished = request.take() else { return .partial }
        swap(&finished.body, &body)
        state = .head
        continueIsDue = false
        prepareForHead()
        return .request(finished)
    }

    private mutating func prepareForHead() {
        head.reset()
        skippedEmptyLine = false
    }
}
