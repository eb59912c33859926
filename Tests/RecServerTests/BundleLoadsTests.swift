import Artifacts
import Foundation
import HTTP
import Testing
import Threading

@testable import RecServer

@Suite struct BundleLoadsTests {
    /// A daemon's inside without listeners and compute threads.
    private struct Rig {
        let service: RecommendService
        let loads: BundleLoads

        init(_ bundle: TemporaryFolder, _ arguments: [String] = []) throws {
            let configuration = try Configuration(arguments: ["--bundle", bundle.path] + arguments)
            service = try RecommendService(
                settings: PipelineSettings(configuration), logger: SmallBundle.silentLogger)
            loads = try BundleLoads(service, configuration, threads: 2)
        }

        /// Loads and waits for the end.
        func load(_ order: BundleLoads.Order) throws -> BundleLoads.Summary {
            let done = Latch(count: 1)
            let outcome = Lock<BundleLoads.Summary?>(nil)
            let isBegun = loads.begin(order) { result in
                let summary = result.summary
                outcome.withLock { $0 = summary }
                done.countDown()
            }
            #expect(isBegun)
            #expect(done.wait(within: .seconds(300)))
            return try #require(outcome.withLock { $0 })
        }

        var version: String? { service.registry.assignment(.default)?.bundle.modelVersion }
    }

    private static func folder(_ version: String, _ change: (inout SmallBundle) -> Void = { _ in }) throws
        -> TemporaryFolder
    {
        var small = SmallBundle()
        small.manifest = small.manifest.replacing("small-1", with: version)
        change(&small)
        let folder = try TemporaryFolder()
        try small.write(to: folder)
        return folder
    }

    @Test func `a bundle is loaded once, and again only when its manifest is another`() throws {
        let (a, b) = (try Self.folder("a"), try Self.folder("b"))
        let rig = try Rig(a)
        #expect(try rig.load(.init(path: a.path)).name == "loaded")
        #expect(try rig.load(.init(path: a.path)).name == "unchanged")
        #expect(try rig.load(.init(path: b.path)).name == "loaded")
        #expect(rig.version == "b")
        // Kept for a rollback, so that it is published without a load.
        let kept = rig.service.registry.versions.last
        #expect(try rig.load(.init(path: a.path)).name == "loaded")
        #expect(rig.service.registry.assignment(.default)?.bundle === kept)
        #expect(rig.loads.stop())
    }

    @Test func `a refused bundle changes nothing and says why`() throws {
        let a = try Self.folder("a")
        let rig = try Rig(a)
        _ = try rig.load(.init(path: a.path))
        let damaged = try Self.folder("b")
        var bytes = try damaged.read(SmallBundle.file)
        bytes[bytes.count - 1] ^= 1
        try damaged.write(SmallBundle.file, bytes)
        let wrongGolden = try Self.folder("c") {
            let request = #"{"user_id":"u3","candidates":[{"item_id":"i1"}],"now":1700000000}"#
            $0.others["golden.jsonl"] = Array(#"{"request":\#(request),"stages":{"value":[12]}}"#.utf8)
        }
        let wrongWarmUp = try Self.folder("d") { $0.others["warmup.jsonl"] = Array(#"{"n":0}"#.utf8) }
        let cases: [(String, BundleLoads.Refusal.Reason, String)] = [
            ("/no/such/folder", .unreadable, "/no/such/folder"),
            (damaged.path, .digest, SmallBundle.file),
            (wrongGolden.path, .goldens, "golden.jsonl: line 1"),
            (wrongWarmUp.path, .warmup, "warmup.jsonl: line 1"),
        ]
        for (path, reason, word) in cases {
            let refusal = try #require(try rig.load(.init(path: path)).refusal)
            #expect(refusal.reason == reason)
            #expect(refusal.detail.contains(word), "\(refusal.detail)")
            #expect(rig.service.metrics.refused(reason).value == 1)
            #expect(rig.version == "a")
        }
        #expect(rig.service.registry.versions.count == 1)
        #expect(rig.loads.stop())
    }

    @Test func `a bundle that does not fit into memory is refused with the numbers`() throws {
        let a = try Self.folder("a")
        let rig = try Rig(a, ["--memory-headroom", "1099511627776"])
        let refusal = try #require(try rig.load(.init(path: a.path)).refusal)
        #expect(refusal.reason == .memory)
        #expect(refusal.detail.contains("1099511627776"), "\(refusal.detail)")
        #expect(rig.loads.stop())
    }

    @Test func `a folder that is not the one a rollback needs is refused`() throws {
        let a = try Self.folder("a")
        let rig = try Rig(a)
        let digest = String(repeating: "0", count: 64)
        let refusal = try #require(try rig.load(.init(path: a.path, digest: digest)).refusal)
        #expect(refusal.reason == .digest && refusal.detail.contains(digest))
        #expect(rig.loads.stop())
    }

    @Test func `a link that is switched is followed`() throws {
        let (a, b, links) = (try Self.folder("a"), try Self.folder("b"), try TemporaryFolder())
        let link = links.path + "/current"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: a.path)
        let rig = try Rig(links)
        _ = try rig.load(.init(path: link))
        try FileManager.default.removeItem(atPath: link)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: b.path)
        _ = try rig.load(.init(path: link))
        #expect(rig.version == "b")
        let previous = try #require(rig.service.registry.assignment(.default)?.previous)
        #expect(try BundleFolder.digest(of: previous.path) == previous.digest)
        #expect(rig.loads.stop())
    }

    @Test func `loading leaves no trace in the metrics of requests`() throws {
        let a = try Self.folder("a") { $0.others["warmup.jsonl"] = Array(#"{"user_id":"u5"}"#.utf8) }
        let rig = try Rig(a)
        _ = try rig.load(.init(path: a.path))
        #expect(rig.service.metrics.historyTokens.value == 0)
        #expect(rig.service.metrics.itemsReturned.snapshot.cumulative.last == 0)
        #expect(rig.loads.stop())
    }

    @Test func `every admin path finds its endpoint`() throws {
        #expect(try AdminRouter.match(method: "GET", path: "/bundles") == .list)
        #expect(try AdminRouter.match(method: "POST", path: "/bundles") == .load)
        #expect(try AdminRouter.match(method: "POST", path: "/bundles/promote") == .promote)
        #expect(try AdminRouter.match(method: "DELETE", path: "/bundles/a%2Fb") == .remove(version: "a/b"))
        #expect(throws: Problem(.methodNotAllowed, allow: "GET, POST")) {
            try AdminRouter.match(method: "DELETE", path: "/bundles")
        }
        #expect(throws: Problem(.methodNotAllowed, allow: "DELETE")) {
            try AdminRouter.match(method: "GET", path: "/bundles/x")
        }
        for path in ["/", "/bundles/", "/bundles/a/b", "/recommend"] {
            #expect(throws: Problem(.notFound)) { try AdminRouter.match(method: "GET", path: path) }
        }
    }

    @Test func `a shadow's page is compared item by item`() {
        let metrics = ShadowMetrics()
        metrics.compare(sent: ["a", "b", "c", "d"], shadow: ["a", "c", "x", "y"])
        #expect(metrics.overlap.snapshot.sum == 0.5)
        #expect(metrics.rankDifference.snapshot.sum == 0.5)
        metrics.compare(sent: [], shadow: [])
        #expect(metrics.overlap.snapshot.sum == 1.5)
        metrics.compare(sent: ["a"], shadow: ["b"])
        #expect(metrics.overlap.snapshot.sum == 1.5)
        #expect(metrics.rankDifference.snapshot.cumulative.last == 1)
    }
}
