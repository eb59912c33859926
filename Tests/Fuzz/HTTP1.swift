// Sources: Sources/HTTP/ASCII.swift Sources/HTTP/ByteArray.swift Sources/HTTP/ChunkedDecoder.swift
// Sources: Sources/HTTP/HTTP1Head.swift
// Sources: Sources/HTTP/HTTP1Parser.swift Sources/HTTP/HTTP1Writer.swift
// Sources: Sources/HTTP/HTTPError.swift Sources/HTTP/HTTPHeaders.swift Sources/HTTP/ClientCertificate.swift
// Sources: Sources/HTTP/HTTPLimits.swift Sources/HTTP/HTTPRequest.swift
// Sources: Sources/HTTP/HTTPResponse.swift Sources/HTTP/PercentDecoding.swift
// Sources: Tests/HTTPTests/HTTP1Property.swift

/// What errors name; here nothing listens.
public enum HTTPListener {
    /// An address.
    public enum Address: Sendable, Equatable {}
}

/// One input: it is parsed as requests however it is cut, decoded as a query, and written as a header.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzHTTP1(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first, let last = bytes.last else { return 0 }
    let steps = [1 + Int(last % 32)]
    // A chunked body behind a fixed head reaches the decoder much sooner than a whole request would.
    let isChunk = ASCII.hexadecimal(first) != nil
    let input =
        isChunk
        ? Array("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".utf8) + bytes : bytes
    let violation =
        HTTP1Property.violation(input, steps: steps) ?? HTTP1Property.decodingViolation(bytes)
        ?? HTTP1Property.writerViolation(bytes)
    if let violation { fatalError(violation) }
    return 0
}
