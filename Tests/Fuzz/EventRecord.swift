// Sources: Sources/JSON/*.swift Sources/RecCore/*.swift Sources/UserState/StoredUser.swift
// Sources: Sources/UserState/FeatureText.swift Sources/UserState/StateRecord.swift
// Sources: Tests/UserStateTests/EventRecordProperty.swift

/// One input: a line of an export, or what claims to be one.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzEventRecord(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = EventRecordProperty.violation(bytes) { fatalError(violation) }
    return 0
}
