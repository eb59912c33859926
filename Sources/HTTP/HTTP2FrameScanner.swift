/// Finds the frames in a connection's bytes (RFC 9113 §4.1), and weighs what each asks of the server.
///
/// The protocol library drops unknown and late frames without a word; here every frame is seen. Sans-I/O:
/// nothing is kept but a few integers.
struct HTTP2FrameScanner {
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    /// Bytes of the present payload, or of the preface, still to come.
    private var payloadLeft = preface.count
    /// The first bytes of a frame header: length, type and flags.
    private var header: UInt64 = 0
    private var headerCount = 0

    /// A header block has begun and not ended.
    private(set) var isInHeaderBlock = false

    /// Advances `position` behind the next frame header that is complete and returns the frame's weight; nil
    /// when the bytes end first.
    ///
    /// The weight is 0 for a frame that brings content or the end of a request. All others weigh 1, and header
    /// blocks 1 more for each KiB: whoever sends them must get answers in between.
    mutating func next(_ bytes: Span<UInt8>, _ position: inout Int) -> Int? {
        let skipped = min(payloadLeft, bytes.count - position)
        payloadLeft -= skipped
        position += skipped
        while position < bytes.count {
            header = header << 8 | UInt64(bytes[position])
            headerCount += 1
            position += 1
            if headerCount == 5 {
                note(length: Int(header >> 16), type: header >> 8 & 0xFF, flags: header & 0xFF)
            }
            if headerCount == 9 {
                header = 0
                headerCount = 0
                return weight
            }
        }
        return nil
    }

    private var weight = 0

    private mutating func note(length: Int, type: UInt64, flags: UInt64) {
        payloadLeft = length
        let (endStream, endHeaders, padded) = (flags & 0x1 != 0, flags & 0x4 != 0, flags & 0x8 != 0)
        switch type {
        case 0x0: weight = endStream || length > 0 && !padded ? 0 : 1
        case 0x1, 0x9:
            isInHeaderBlock = !endHeaders
            weight = 1 + length / 1_024
        default: weight = 1
        }
    }
}
