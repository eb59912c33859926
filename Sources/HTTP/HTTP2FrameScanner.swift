/// Finds the frames in a connection's bytes (RFC 9113 §4.1), and weighs what each asks of the server.
///
/// The protocol library drops unknown and late frames without a word; here every frame is seen. Sans-I/O:
/// nothing is kept but a few integers.
struct HTTP2FrameScanner {
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    /// Bytes of the present payload, or of the preface, still to come.
    private var payloadLeft = preface.count
    /// The beginning of a frame header, at most length, type and flags.
    private var header: UInt64 = 0
    private var headerCount = 0

    /// A header block has begun and not ended.
    private(set) var isInHeaderBlock = false
    /// Frames that continue the present or the last header block.
    private var continuations = 0

    /// Advances `position` behind the next frame header that is complete and returns the frame's weight; nil
    /// when the bytes end first.
    ///
    /// The weight is 0 for a frame that brings content or the end of a request. All others weigh 1, and
    /// header blocks 1 more for each KiB, 100 more for each piece above 9: whoever sends them must get
    /// answers in between.
    mutating func next(_ bytes: Span<UInt8>, _ position: inout Int) -> Int? {
        let skipped = min(payloadLeft, bytes.count - position)
        payloadLeft -= skipped
        position += skipped
        while position < bytes.count {
            if headerCount < 5 { header = header << 8 | UInt64(bytes[position]) }
            headerCount += 1
            position += 1
            if headerCount == 9 { return takeHeader() }
        }
        return nil
    }

    private mutating func takeHeader() -> Int {
        let (length, type, flags) = (Int(header >> 16), header >> 8 & 0xFF, header & 0xFF)
        let (endStream, endHeaders, padded) = (flags & 0x1 != 0, flags & 0x4 != 0, flags & 0x8 != 0)
        payloadLeft = length
        header = 0
        headerCount = 0
        switch type {
        case 0x0: return endStream || length > 0 && !padded ? 0 : 1
        case 0x1, 0x9:
            isInHeaderBlock = !endHeaders
            continuations = type == 0x1 ? 0 : continuations + 1
            return (continuations > 8 ? 100 : 1) + length / 1_024
        default: return 1
        }
    }
}
