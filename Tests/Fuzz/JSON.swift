// Sources: Sources/JSON/JSONParser.swift Sources/JSON/JSONReader.swift Sources/JSON/JSONValue.swift
// Sources: Sources/JSON/JSONWriter.swift Tests/JSONTests/JSONProperty.swift

/// One input: a text that is read, written and read again.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzJSON(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = JSONProperty.violation(bytes) { fatalError(violation) }
    return 0
}
