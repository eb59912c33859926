/// Bytes of one HTTP/1 connection → requests: a strict machine without I/O (RFC 9112).
///
/// Present the bytes that are not consumed yet, again with more after `.partial`. Each call ends with the
/// first complete request, the first failure (after which the connection is of no more use), or all bytes
/// seen. A head of the very same bytes as the one before is not parsed again: clients that stay send many.
final class HTTP1Parser {
    enum Event: Equatable {
        case partial
        /// A complete request is there to be taken.
        case request
        /// The same request as before, which has no body, is there to be taken.
        case repeated
        case failure(HTTPProtocolError)
    }

    private enum State {
        case head
        case fixedBody(remaining: Int)
        case chunkedBody
    }

    /// Heads of more bytes are not kept: what an idle connection holds stays small.
    private static let keptHeadBytesMax = 1_024

    private let limits: HTTPLimits
    private var state = State.head
    private var head = HTTP1Head()
    /// The bytes of the last head, and its request without a body; nil when it is not kept.
    private var headBytes: [UInt8] = []
    private var begun: HTTPRequest?
    private var body: [UInt8] = []
    private var chunks = ChunkedDecoder(bodyBytesMax: 0)
    private var skippedEmptyLine = false
    private var isHeadOver = false
    /// `begun` may be given again.
    private var isHeadKept = false
    private var isBodiless = false
    private var continueIsDue = false

    init(limits: HTTPLimits) { self.limits = limits }

    /// True between the end of a head and the end of its body.
    var isInBody: Bool {
        if case .head = state { false } else { true }
    }

    /// Bytes of the present body so far.
    var bodyByteCount: Int { body.count }

    /// True once for each head that asks for `100 Continue` and whose body has not begun.
    func takeContinue() -> Bool {
        defer { continueIsDue = false }
        return continueIsDue && body.isEmpty && isInBody
    }

    func parse(_ bytes: Span<UInt8>) -> (event: Event, consumed: Int) {
        var position = 0
        if case .head = state {
            let outcome: HTTP1Head.Outcome
            if isHeadKept, bytes.starts(with: headBytes) {
                if isBodiless { return (.repeated, headBytes.count) }
                outcome = .complete(headBytes.count)
            } else {
                outcome = parseHead(bytes, &position)
            }
            switch outcome {
            case .partial: return (.partial, position)
            case .failure(let failure): return (.failure(failure), position)
            case .complete(let end):
                position = end
                isHeadOver = true
                if isBodiless { return (.request, position) }
                if let failure = beginBody() { return (.failure(failure), position) }
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
        state = .head
        continueIsDue = false
        return (.request, position)
    }

    /// The request that `parse` has told of.
    func takeRequest() -> HTTPRequest? {
        var request = begun
        if !isHeadKept { begun = nil }
        if !body.isEmpty {
            request?.body = body
            body = []
        }
        return request
    }

    /// Looks for a head in bytes that are not known; advances `position` only over an empty line, and gives
    /// the position behind the head.
    private func parseHead(_ bytes: Span<UInt8>, _ position: inout Int) -> HTTP1Head.Outcome {
        if isHeadOver {
            // Only now, because by now whoever got the last request has mostly let go of its memory.
            begun = nil
            head.reset()
            skippedEmptyLine = false
            isHeadOver = false
            isHeadKept = false
        }
        // RFC 9112 §2.2: one empty line before the request line is forgiven.
        if !skippedEmptyLine, bytes.count > 0, bytes[0] == ASCII.carriageReturn {
            guard bytes.count > 1 else { return .partial }
            guard bytes[1] == ASCII.lineFeed else { return .failure(.malformedLineEnd) }
            skippedEmptyLine = true
            position = 2
        }
        let outcome = head.parse(bytes.extracting(position..<bytes.count), limits)
        guard case .complete(let count) = outcome else { return outcome }
        keep(bytes.extracting(position..<position + count))
        return .complete(position + count)
    }

    /// Makes the request of a complete head, of which `bytes` are all.
    private func keep(_ bytes: Span<UInt8>) {
        isHeadKept = bytes.count <= Self.keptHeadBytesMax
        isBodiless = head.framing == .length(0)
        // Moved out and in again, because access to what is changed in place is watched at run time.
        var copy: [UInt8] = []
        swap(&copy, &headBytes)
        copy.removeAll(keepingCapacity: isHeadKept)
        copy.append(copying: bytes)
        swap(&copy, &headBytes)
        begun = HTTPRequest(
            method: Self.method(bytes.extracting(head.method)),
            path: head.path.isEmpty ? "/" : bytes.extracting(head.path).text,
            query: head.query.map { bytes.extracting($0).text },
            headers: HTTPHeaders(head: headBytes, fields: head.fields), peer: "", isLoopback: false,
            isKeepAlive: head.isKeepAlive, version: head.isHTTP10 ? .http10 : .http11)
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

    private func beginBody() -> HTTPProtocolError? {
        let bodyBytesMax = limits.bodyBytesMax(path: begun?.path ?? "")
        switch head.framing {
        case .length(let length):
            guard length <= bodyBytesMax else { return .bodyTooLarge }
            state = .fixedBody(remaining: length)
            // 64 KiB: what one read brings; more only once it has really arrived.
            body.reserveCapacity(min(length, 65_536))
        case .chunked:
            state = .chunkedBody
            chunks = ChunkedDecoder(bodyBytesMax: bodyBytesMax)
        }
        continueIsDue = head.expectsContinue && !head.isHTTP10
        return nil
    }
}
