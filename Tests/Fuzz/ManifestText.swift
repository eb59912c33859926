// Sources: Sources/JSON/JSONParser.swift Sources/JSON/JSONReader.swift Sources/JSON/JSONValue.swift
// Sources: Sources/JSON/JSONWriter.swift Sources/Kernels/Kernel.swift Sources/Kernels/Matrix.swift
// Sources: Sources/Kernels/ScalarMath.swift Sources/Artifacts/BundleError.swift
// Sources: Sources/Artifacts/BundleTensors.swift Sources/Artifacts/FileBytes.swift
// Sources: Sources/Artifacts/Manifest.swift Sources/Artifacts/ManifestDecoder.swift
// Sources: Sources/Artifacts/ManifestFeatureDecoder.swift
// Sources: Sources/Artifacts/ManifestStageDecoder.swift Sources/Artifacts/SafeTensors.swift
// Sources: Sources/Artifacts/StageConfiguration.swift Sources/Artifacts/StringList.swift
// Sources: Tests/ArtifactsTests/BundleProperty.swift
// C: Sources/CKernels/CKernels.c
// Options: -max_len=4096

/// One input: a manifest.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzManifestText(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = BundleProperty.manifestViolation(bytes) { fatalError(violation) }
    return 0
}
