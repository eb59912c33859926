// Sources: Sources/HTTP/GzipDecoder.swift Tests/HTTPTests/GzipProperty.swift
// Libraries: z

/// One input: a request body that says it is gzip.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzGzip(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = GzipProperty.violation(bytes) { fatalError(violation) }
    return 0
}
