// Sources: Sources/HTTP/ASCII.swift Sources/HTTP/HTTP1Head.swift Sources/HTTP/HTTP1Writer.swift
// Sources: Sources/HTTP/Atomic+Increase.swift Sources/HTTP/HTTPError.swift Sources/HTTP/HTTPHeaders.swift
// Sources: Sources/HTTP/ByteArray.swift Sources/HTTP/ClientCertificate.swift
// Sources: Sources/HTTP/HTTPLimits.swift Sources/HTTP/HTTPRequest.swift Sources/HTTP/HTTPResponse.swift
// Sources: Sources/HTTP/HTTPTimes.swift Sources/HTTP/Presence.swift Sources/HTTP/HTTP2Block.swift
// Sources: Sources/HTTP/HTTP2Counters.swift Sources/HTTP/HTTP2FrameScanner.swift
// Sources: Sources/HTTP/HTTP2Head.swift Sources/HTTP/HTTP2Session.swift
// Sources: Sources/HTTP/HTTP2Session+Streams.swift Sources/HTTP/HTTP2Session+Times.swift
// Sources: Sources/Threading/MonotonicClock.swift Tests/HTTPTests/HTTP2Property.swift
// C: Sources/CLinux/CLinux.c
// Libraries: nghttp2

/// What errors name; here nothing listens.
public enum HTTPListener {
    /// An address.
    public enum Address: Sendable, Equatable {}
}

/// One input: bytes behind the preface, or short forms of frames, which reach further than bytes at random.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzHTTP2(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    guard bytes.count > 2 else { return 0 }
    let input = HTTP2Property.input(bytes)
    let step = 1 + Int(bytes[1] % 32)
    let violation =
        HTTP2Property.violation(input, steps: [step])
        ?? HTTP2Property.serviceViolation(input, step: step * 4, delay: Int(bytes[1] >> 5))
    if let violation { fatalError(violation) }
    return 0
}
