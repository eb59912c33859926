import CZlib

/// Inflates gzip (RFC 1952), as far as it is allowed to grow.
public enum GzipDecoder {
    /// Why there is no content.
    public enum Failure: Error, Equatable, Sendable {
        /// It is not gzip, breaks off, something follows it, or a checksum is wrong.
        case damaged
        /// It would be larger than the limit, or grow beyond `ratioMax` times its size.
        case tooLarge
        /// No memory.
        case unavailable
    }

    /// The most bytes that one byte may become, once there are more than `ratioBytes`; what people send
    /// becomes 5 to 30, deflate's most is 1,032.
    public static let ratioMax = 256
    /// Up to here the ratio is nobody's concern.
    public static let ratioBytes = 65_536

    /// The content of one or more gzip members. Takes at most the memory of the limit, and 40 KiB.
    public static func decode(_ bytes: [UInt8], limit: Int) throws(Failure) -> [UInt8] {
        guard let count = UInt32(exactly: bytes.count), count > 0 else { throw .damaged }
        // What may be written, and one byte more, which shows that there is too much.
        let most = min(limit, max(ratioBytes, bytes.count * ratioMax))
        guard most >= 0, let room = UInt32(exactly: most + 1) else { throw .tooLarge }
        // SAFETY: zlib wants zeros, and the stream to stay where it is; it goes at the end of the call.
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        defer { unsafe stream.deallocate() }
        unsafe stream.initialize(to: z_stream())
        guard unsafe CZlib_inflate_begin(stream) == Z_OK else { throw .unavailable }
        defer { unsafe inflateEnd(stream) }
        var output: [UInt8] = []
        var written: UInt32 = 0
        var failure: Failure?
        // SAFETY: zlib reads the bytes and writes into the array within its bounds, both only during a call:
        // the output pointer is set anew before each.
        unsafe bytes.withUnsafeBufferPointer { source in
            unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
            unsafe stream.pointee.avail_in = count
            while failure == nil {
                if written == output.count { grow(&output, to: room, from: count) }
                let status = unsafe output.withUnsafeMutableBufferPointer { buffer -> Int32 in
                    unsafe stream.pointee.next_out = buffer.baseAddress.map { unsafe $0 + Int(written) }
                    unsafe stream.pointee.avail_out = UInt32(buffer.count) - written
                    let status = unsafe inflate(stream, Z_NO_FLUSH)
                    written = unsafe UInt32(buffer.count) - stream.pointee.avail_out
                    return status
                }
                if written == room {
                    failure = .tooLarge
                } else if status == Z_STREAM_END {
                    if unsafe stream.pointee.avail_in == 0 { return }
                    if unsafe inflateReset(stream) != Z_OK { failure = .damaged }
                } else if status == Z_MEM_ERROR {
                    failure = .unavailable
                } else if status != Z_OK, status != Z_BUF_ERROR {
                    failure = .damaged
                } else if unsafe stream.pointee.avail_in == 0 && stream.pointee.avail_out > 0 {
                    // The bytes end, the content does not.
                    failure = .damaged
                }
            }
        }
        if let failure { throw failure }
        output.removeSubrange(Int(written)...)
        return output
    }

    /// Room for four times the input at first, then twice as much each time.
    private static func grow(_ output: inout [UInt8], to room: UInt32, from count: UInt32) {
        let wanted = output.isEmpty ? max(4_096, UInt64(count) * 4) : UInt64(output.count) * 2
        let size = Int(min(UInt64(room), wanted))
        output.append(contentsOf: repeatElement(0, count: size - output.count))
    }
}
