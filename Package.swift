// swift-tools-version: 6.2
import PackageDescription

/// Swift 6 mode, every warning an error, every unsafe use spelled out: see Architecture.md.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
]
let c: [CSetting] = [.treatAllWarnings(as: .error)]
let cxx: [CXXSetting] = [.treatAllWarnings(as: .error)]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name + "Tests", dependencies: dependencies + ["TestSupport"], swiftSettings: strict)
}

let package = Package(
    name: "recserver",
    products: [
        .executable(name: "recserver", targets: ["RecServer"]),
        .executable(name: "recbench", targets: ["RecBench"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    ],
    targets: [
        // MARK: - Policy: what we decide
        .executableTarget(
            name: "RecServer",
            dependencies: [
                "HTTP", "Retrieval", "Ranking", "UserState", "Features", "Artifacts", "Kernels", "Threading",
                "RecCore", "JSON",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["RecServer.docc"],
            resources: [.embedInCode("openapi.yaml")],  // a link to the one at the top
            swiftSettings: strict),
        .executableTarget(
            name: "RecBench",
            dependencies: [
                "Retrieval", "Ranking", "Features", "Artifacts", "Kernels", "Threading", "RecCore", "JSON",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        // MARK: - Capability: what we can do; never import each other
        module("HTTP", ["Threading", "CLinux", "CNGHTTP2", "COpenSSL", "CZlib", "CZstd"]),
        module("Retrieval", ["RecCore", "Kernels", "Artifacts", "Features", "CFaiss"]),
        module("Ranking", ["RecCore", "Kernels", "Artifacts", "Features", "Threading"]),
        module("UserState", ["RecCore", "Threading", "JSON", "CSQLite", "COpenSSL"]),

        // MARK: - Base: what we stand on
        module("Features", ["RecCore", "Kernels", "Artifacts"]),
        module("Artifacts", ["RecCore", "JSON", "Kernels", "COpenSSL"]),
        module("Threading", ["CLinux"]),
        module("Kernels", ["CKernels", "COpenBLAS", "Threading"]),
        module("JSON"),
        module("RecCore"),

        // MARK: - C
        .target(name: "CLinux", cSettings: c),
        .target(name: "CKernels", cSettings: c),
        .target(
            name: "CFaiss", cxxSettings: cxx,
            linkerSettings: [
                .linkedLibrary("faiss"), .linkedLibrary("openblas"), .linkedLibrary("gomp"),
            ]),
        .target(name: "CSQLite", cSettings: c, linkerSettings: [.linkedLibrary("sqlite3")]),
        .systemLibrary(name: "COpenBLAS"),
        .systemLibrary(name: "COpenSSL"),
        .systemLibrary(name: "CNGHTTP2"),
        .systemLibrary(name: "CZlib"),
        .systemLibrary(name: "CZstd"),

        // MARK: - Tests
        .target(
            name: "TestSupport", dependencies: ["CLinux", "JSON"], path: "Tests/TestSupport",
            swiftSettings: strict),
        tests("JSON", ["JSON"]),
        tests("Kernels", ["Kernels", "Threading"]),
        tests("Artifacts", ["Artifacts", "Kernels", "JSON"]),
        tests("Features", ["Features", "Artifacts", "Kernels", "RecCore"]),
        tests("Threading", ["Threading"]),
        tests("HTTP", ["HTTP", "Threading", "CNGHTTP2", "COpenSSL"]),
        tests("Retrieval", ["Retrieval", "Features", "Artifacts", "Kernels", "RecCore"]),
        tests("Ranking", ["Ranking", "Features", "Artifacts", "Kernels", "RecCore", "Threading"]),
        tests("UserState", ["UserState", "RecCore", "Threading"]),
        tests(
            "RecServer",
            [
                "RecServer", "HTTP", "Retrieval", "Ranking", "UserState", "Features", "Artifacts", "Kernels",
                "RecCore", "JSON",
            ]),
        tests("Tidy", []),
    ],
    cxxLanguageStandard: .cxx17
)
