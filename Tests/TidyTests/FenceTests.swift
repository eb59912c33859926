import Testing

/// Where unsafe code and C may stand, and which module may know which.
@Suite struct FenceTests {
    /// Files, or folders ending in a slash, that may hold unsafe code and import C.
    static let fenced = [
        "Sources/Threading/", "Sources/Kernels/", "Sources/Artifacts/", "Sources/HTTP/Socket.swift",
        "Sources/HTTP/ListeningSocket.swift", "Sources/HTTP/Poller.swift", "Sources/HTTP/HTTP2Session.swift",
        "Sources/HTTP/TLSContext.swift", "Sources/HTTP/TLSSession.swift",
        "Sources/Retrieval/FaissIndex.swift",
        "Sources/UserState/SQLite.swift", "Sources/HTTP/ContentEncoder.swift",
        "Sources/HTTP/GzipDecoder.swift",
        "Sources/HTTP/ByteArray.swift",
        "Sources/UserState/StateFolder.swift", "Sources/UserState/KeyedHash.swift",
    ]

    /// What each module may import of this package; `Synchronization` is everybody's.
    static let allowed: [String: Set<String>] = [
        "JSON": [],
        "RecCore": [],
        "Kernels": ["CKernels", "COpenBLAS", "Threading"],
        "Threading": ["CLinux"],
        "Artifacts": ["RecCore", "JSON", "Kernels", "COpenSSL"],
        "Features": ["RecCore", "Kernels", "Artifacts"],
        "HTTP": ["Threading", "CLinux", "CNGHTTP2", "COpenSSL", "CZlib", "CZstd"],
        "Retrieval": ["RecCore", "Kernels", "Artifacts", "Features", "CFaiss"],
        "Ranking": ["RecCore", "Kernels", "Artifacts", "Features", "Threading"],
        "UserState": ["RecCore", "Threading", "JSON", "CSQLite", "COpenSSL"],
        "RecServer": [
            "HTTP", "Retrieval", "Ranking", "UserState", "Features", "Artifacts", "Kernels", "Threading",
            "RecCore",
            "JSON",
            "ArgumentParser", "Logging",
        ],
        "RecBench": [
            "Retrieval", "Ranking", "Features", "Artifacts", "Kernels", "Threading", "RecCore", "JSON",
            "ArgumentParser",
        ],
    ]

    static func isFenced(_ path: String) -> Bool {
        fenced.contains { $0.hasSuffix("/") ? path.hasPrefix($0) : path == $0 }
    }

    @Test func `the tree is found`() {
        #expect(SourceTree.sources.count > 50)
        #expect(SourceTree.tests.count > 10)
    }

    @Test(arguments: SourceTree.sources)
    func `unsafe code stands only in the fenced files`(file: SourceTree.File) {
        guard !Self.isFenced(file.path) else { return }
        #expect(file.places { $0.contains(/\bunsafe\b|@unsafe\b|@safe\b|@unchecked\b/) } == [])
    }

    @Test(arguments: SourceTree.sources)
    func `every unchecked Sendable says what makes it true`(file: SourceTree.File) {
        for (index, line) in file.code.enumerated() where line.contains(/@unchecked\s+Sendable/) {
            let around = file.lines[max(0, index - 1)...min(file.lines.count - 1, index + 1)]
            #expect(around.contains { $0.contains("//") }, "\(file.path):\(index + 1)")
        }
    }

    @Test(arguments: SourceTree.sources)
    func `C and the C library are imported only in the fenced files`(file: SourceTree.File) {
        for module in file.imports where module == "Glibc" || module.wholeMatch(of: /C[A-Z]\w*/) != nil {
            let mayExit = file.path == "Sources/RecServer/main.swift" && module == "Glibc"
            #expect(Self.isFenced(file.path) || mayExit, "\(file.path) imports \(module)")
        }
    }

    @Test(arguments: SourceTree.sources)
    func `imports point down`(file: SourceTree.File) throws {
        let allowed = try #require(Self.allowed[file.module], "no rule for the module of \(file.path)")
        for module in file.imports where module != "Synchronization" && module != "Glibc" {
            #expect(allowed.contains(module), "\(file.path) imports \(module)")
        }
    }
}
