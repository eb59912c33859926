/// Takes the chunked transfer coding apart (RFC 9112 §7.1): strict, iterative, nothing held but a few
/// integers.
///
/// Sans-I/O: consumes every byte it is given until the body is complete; any split gives the same result.
struct ChunkedDecoder {
    enum Outcome: Equatable {
        case partial
        case complete
        case failure(HTTPProtocolError)
    }

    private enum State {
        case size(digits: Int)
        case extensions
        case sizeLineFeed
        case data
        case dataReturn
        case dataLineFeed
        case trailerStart
        case trailerName
        case trailerValue
        case trailerLineFeed
        case endLineFeed
    }

    /// Bytes of content; more is a failure.
    private let bodyBytesMax: Int
    private var state = State.size(digits: 0)
    /// Bytes of the present chunk still to come.
    private var remaining = 0
    private var extensionBytes = 0
    private var trailerBytes = 0
    private var trailers = 0

    init(bodyBytesMax: Int) { self.bodyBytesMax = bodyBytesMax }

    /// Appends content to `body` and advances `position`, to the end of `bytes` or of the whole body.
    mutating func decode(
        _ bytes: Span<UInt8>, from position: inout Int, into body: inout [UInt8], _ limits: HTTPLimits
    ) -> Outcome {
        while position < bytes.count {
            if case .data = state {
                let count = min(remaining, bytes.count - position)
                body.append(copying: bytes.extracting(position..<position + count))
                position += count
                remaining -= count
                if remaining == 0 { state = .dataReturn }
                continue
            }
            let byte = bytes[position]
            position += 1
            if let failure = frame(byte, body.count, limits) { return .failure(failure) }
            if isComplete { return .complete }
        }
        return .partial
    }

    private var isComplete = false

    /// One byte outside of the content.
    private mutating func frame(_ byte: UInt8, _ decoded: Int, _ limits: HTTPLimits) -> HTTPProtocolError? {
        switch state {
        case .size(let digits): return size(byte, digits, decoded)
        case .extensions:
            if byte == ASCII.carriageReturn {
                state = .sizeLineFeed
                return nil
            }
            extensionBytes += 1
            return ASCII.isFieldValue(byte) && extensionBytes <= limits.chunkExtensionBytesMax
                ? nil : .malformedChunk
        case .sizeLineFeed:
            state = remaining > 0 ? .data : .trailerStart
            return byte == ASCII.lineFeed ? nil : .malformedChunk
        case .data: return nil
        case .dataReturn:
            state = .dataLineFeed
            return byte == ASCII.carriageReturn ? nil : .malformedChunk
        case .dataLineFeed:
            state = .size(digits: 0)
            return byte == ASCII.lineFeed ? nil : .malformedChunk
        case .trailerStart, .trailerName, .trailerValue, .trailerLineFeed: return trailer(byte, limits)
        case .endLineFeed:
            isComplete = true
            return byte == ASCII.lineFeed ? nil : .malformedChunk
        }
    }

    private mutating func size(_ byte: UInt8, _ digits: Int, _ decoded: Int) -> HTTPProtocolError? {
        if let digit = ASCII.hexadecimal(byte) {
            // 16 digits are any 64-bit number; zeros in front of them have no use but attacks.
            guard digits < 16 else { return .malformedChunk }
            if remaining > bodyBytesMax { return .bodyTooLarge }
            remaining = remaining &* 16 &+ Int(digit)
            state = .size(digits: digits + 1)
            return nil
        }
        guard digits > 0 else { return .malformedChunk }
        if remaining > bodyBytesMax - decoded { return .bodyTooLarge }
        switch byte {
        case ASCII.carriageReturn: state = .sizeLineFeed
        case ASCII.semicolon: state = .extensions
        default: return .malformedChunk
        }
        return nil
    }

    /// Trailers obey the grammar and the limits of header fields and are dropped.
    private mutating func trailer(_ byte: UInt8, _ limits: HTTPLimits) -> HTTPProtocolError? {
        if case .trailerStart = state, byte == ASCII.carriageReturn {
            state = .endLineFeed
            return nil
        }
        trailerBytes += 1
        if trailerBytes > limits.headerBytesMax { return .headersTooLarge }
        switch state {
        case .trailerStart:
            trailers += 1
            if trailers > limits.headerCountMax { return .headersTooLarge }
            state = .trailerName
            return ASCII.isToken(byte) ? nil : .malformedChunk
        case .trailerName:
            if byte == ASCII.colon { state = .trailerValue }
            return byte == ASCII.colon || ASCII.isToken(byte) ? nil : .malformedChunk
        case .trailerValue:
            if byte == ASCII.carriageReturn { state = .trailerLineFeed }
            return byte == ASCII.carriageReturn || ASCII.isFieldValue(byte) ? nil : .malformedChunk
        default:
            state = .trailerStart
            return byte == ASCII.lineFeed ? nil : .malformedChunk
        }
    }
}
