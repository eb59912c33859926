// Sources: Sources/JSON/*.swift Sources/RecCore/*.swift Sources/Kernels/*.swift Sources/Threading/*.swift
// Sources: Sources/Artifacts/*.swift Tests/ArtifactsTests/BundleProperty.swift
// C: Sources/CKernels/*.c Sources/CLinux/*.c
// Libraries: openblas crypto
// Options: -max_len=4096

/// One input: a tensor file, every tensor of which is read in every way.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzTensorFile(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = BundleProperty.tensorsViolation(bytes) { fatalError(violation) }
    return 0
}
