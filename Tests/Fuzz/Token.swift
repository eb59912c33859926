// Sources: Sources/RecServer/State/SequenceToken.swift Sources/RecServer/Bundles/StickyHash.swift
// Sources: Tests/RecServerTests/SequenceTokenProperty.swift

/// One input: what a caller shows as `min_sequence`.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzToken(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = SequenceTokenProperty.violation(bytes) { fatalError(violation) }
    return 0
}
