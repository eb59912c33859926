import Testing
import Threading

@testable import RecServer

/// Small versions, and a registry with its reaper.
private struct Rig {
    let reaper: BundleReaper
    let registry: BundleRegistry

    init(keepsPrevious: Bool = true) throws {
        reaper = try BundleReaper(
            slates: Slates(byteLimit: 1 << 20, ttlSeconds: 60), logger: SmallBundle.silentLogger)
        registry = BundleRegistry(
            reaper: reaper, keepsPrevious: keepsPrevious, historyBudget: HistoryBudget(byteCount: 0))
    }

    /// A version of its own, with a manifest of its own.
    static func bundle(_ version: String) throws -> LoadedBundle {
        var small = SmallBundle()
        small.manifest = small.manifest.replacing("small-1", with: version)
        let settings = PipelineSettings(try Configuration())
        return LoadedBundle(
            try small.snapshot(), path: "/bundles/\(version)", threads: 1, settings: settings,
            metrics: Metrics())
    }

    @discardableResult
    func publish(
        _ version: String, as label: BundleLabel = .default, share: Double? = nil, pinned: Bool? = nil
    ) throws -> LoadedBundle {
        let bundle = try Self.bundle(version)
        try registry.publish(bundle, as: label, share: share, pinned: pinned)
        return bundle
    }

    func answers(_ model: String? = nil, user: String? = nil, request: String = "r") throws -> String {
        try registry.choose(model: model, userID: user, requestID: request).bundle.modelVersion
    }

    func version(_ label: BundleLabel) -> String? { registry.assignment(label)?.bundle.modelVersion }
}

@Suite struct BundleRegistryTests {
    private static let users = (0..<1000).map { "user-\($0)" }

    @Test func `without a bundle nobody answers`() throws {
        let rig = try Rig()
        #expect(!rig.registry.isReady)
        #expect(throws: Problem(.notReady, "no bundle is loaded yet", retryAfter: 1)) { try rig.answers() }
    }

    @Test func `a share of the users goes to the canary, always the same ones`() throws {
        let rig = try Rig()
        try rig.publish("a")
        let canary = try rig.publish("b", as: .canary, share: 0.3)
        let chosen = try Self.users.filter { try rig.answers(user: $0) == "b" }
        #expect((240...360).contains(chosen.count))
        for user in Self.users {
            #expect(try rig.answers(user: user, request: "another") == (chosen.contains(user) ? "b" : "a"))
        }
        // A larger share keeps those who were there.
        try rig.registry.publish(canary, as: .canary, share: 0.6, pinned: nil)
        for user in chosen { #expect(try rig.answers(user: user) == "b") }
        try rig.registry.publish(canary, as: .canary, share: 0, pinned: nil)
        for user in Self.users { #expect(try rig.answers(user: user) == "a") }
        try rig.registry.publish(canary, as: .canary, share: 1, pinned: nil)
        for user in Self.users { #expect(try rig.answers(user: user) == "b") }
    }

    @Test func `without a user the request's id decides`() throws {
        let rig = try Rig()
        try rig.publish("a")
        try rig.publish("b", as: .canary, share: 0.5)
        let chosen = try Self.users.filter { try rig.answers(request: $0) == "b" }
        #expect((440...560).contains(chosen.count))
    }

    @Test func `a name chooses a label or an exact version`() throws {
        let rig = try Rig()
        try rig.publish("a")
        try rig.publish("b", as: .canary, share: 1)
        try rig.publish("c", as: .shadow, share: 1)
        #expect(try rig.answers("default", user: "u") == "a")
        #expect(try rig.answers("canary") == "b")
        for version in ["a", "b", "c"] { #expect(try rig.answers(version) == version) }
        for name in ["shadow", "d", "", "A", "Default"] {
            let error = #expect(throws: Problem.self) { try rig.answers(name) }
            #expect(error?.kind == .unknownModel)
        }
    }

    @Test func `the shadow gets a share of what the default answers, and nothing else`() throws {
        let rig = try Rig()
        try rig.publish("a")
        try rig.publish("b", as: .canary, share: 0.5)
        try rig.publish("c", as: .shadow, share: 0.4)
        var shadowed = 0
        var main = 0
        for user in Self.users {
            let choice = try rig.registry.choose(model: nil, userID: user, requestID: "r" + user)
            #expect(choice.bundle.modelVersion != "c")
            if choice.label == .default { main += 1 }
            guard let shadow = choice.shadow else { continue }
            #expect(choice.label == .default && shadow.modelVersion == "c")
            shadowed += 1
        }
        #expect((0.3...0.5).contains(Double(shadowed) / Double(main)))
        #expect(try rig.registry.choose(model: "b", userID: nil, requestID: "r").shadow == nil)
    }

    @Test(arguments: [true, false])
    func `a rollback goes back to the version before`(keepsPrevious: Bool) throws {
        let rig = try Rig(keepsPrevious: keepsPrevious)
        #expect(throws: BundleRegistry.Refusal.unassigned(.default)) { try rig.registry.rollBack(.default) }
        try rig.publish("a")
        #expect(throws: BundleRegistry.Refusal.noPrevious(.default)) { try rig.registry.rollBack(.default) }
        try rig.publish("b")
        switch try rig.registry.rollBack(.default) {
        case .done:
            #expect(keepsPrevious && rig.version(.default) == "a")
            _ = try rig.registry.rollBack(.default)
            #expect(rig.version(.default) == "b")
        case .needsLoad(let previous):
            #expect(!keepsPrevious && previous.modelVersion == "a" && previous.path == "/bundles/a")
            #expect(rig.version(.default) == "b")
        }
        #expect(rig.registry.versions.count == (keepsPrevious ? 2 : 1))
    }

    @Test func `a promoted version leaves its old label, and a rollback undoes it`() throws {
        let rig = try Rig()
        try rig.publish("a")
        try rig.publish("b", as: .canary)
        try rig.registry.promote(.canary, to: .default)
        #expect(rig.version(.default) == "b" && rig.version(.canary) == nil)
        #expect(rig.registry.assignment(.default)?.share == 1)
        #expect(throws: BundleRegistry.Refusal.unassigned(.canary)) {
            try rig.registry.promote(.canary, to: .default)
        }
        #expect(throws: BundleRegistry.Refusal.unassigned(.default)) {
            try rig.registry.promote(.default, to: .shadow)
        }
        _ = try rig.registry.rollBack(.default)
        #expect(rig.version(.default) == "a")
    }

    @Test func `a pinned label keeps its version`() throws {
        let rig = try Rig()
        try rig.publish("a")
        try rig.publish("b")
        try rig.publish("c", as: .canary)
        try rig.registry.setPinned(.default, true)
        let refusal = BundleRegistry.Refusal.pinned(.default)
        #expect(throws: refusal) { try rig.publish("d") }
        #expect(throws: refusal) { try rig.registry.promote(.canary, to: .default) }
        #expect(throws: refusal) { try rig.registry.rollBack(.default) }
        #expect(rig.version(.default) == "b" && rig.version(.canary) == "c")
        try rig.publish("e", pinned: false)
        #expect(rig.version(.default) == "e" && !rig.registry.isPinned(.default))
    }

    @Test func `versions are removed unless they are the default's`() throws {
        let rig = try Rig()
        try rig.publish("a")
        let digest = try rig.publish("b").digest
        try rig.publish("c", as: .canary)
        #expect(throws: BundleRegistry.Refusal.isDefault) { try rig.registry.remove("b") }
        #expect(throws: BundleRegistry.Refusal.isDefault) { try rig.registry.remove(digest) }
        #expect(throws: BundleRegistry.Refusal.unknownVersion("x")) { try rig.registry.remove("x") }
        try rig.registry.remove("c")
        #expect(rig.version(.canary) == nil)
        try rig.registry.remove("a")
        #expect(rig.registry.versions.map(\.modelVersion) == ["b"])
        // What is no longer in memory can still be gone back to.
        guard case .needsLoad(let previous) = try rig.registry.rollBack(.default) else {
            Issue.record("rolled back to a version that was removed")
            return
        }
        #expect(previous.modelVersion == "a")
    }

    @Test func `one version too many changes nothing, unless a kept one is given up`() throws {
        let rig = try Rig()
        try rig.publish("a")
        try rig.publish("b")
        try rig.publish("c", as: .canary)
        try rig.publish("d", as: .shadow)
        #expect(throws: BundleRegistry.Refusal.tooMany) { try rig.publish("e", as: .canary) }
        #expect(rig.version(.canary) == "c" && rig.registry.versions.count == 4)
        #expect(rig.registry.dropKept())
        try rig.publish("e", as: .canary)
        #expect(!rig.registry.versions.contains { $0.modelVersion == "a" })
    }

    @Test func `a version goes when its last request has ended, on the reaper's thread`() throws {
        let rig = try Rig(keepsPrevious: false)
        weak var snapshot: Snapshot?
        func serve() throws -> LoadedBundle {
            let old = try rig.publish("a")
            snapshot = old.snapshot
            return try rig.registry.choose(model: nil, userID: nil, requestID: "r").bundle
        }
        var request: LoadedBundle? = try serve()
        try rig.publish("b")
        #expect(rig.reaper.draining.map(\.modelVersion) == ["a"])
        #expect(try rig.answers() == "b")
        let body = #"{"user_id":"u1","degrade":"never"}"#
        let modelVersion = try request?.pipelines.lend { try $0.answer(body).modelVersion }
        #expect(modelVersion == "a" && snapshot != nil)
        request = nil
        #expect(rig.reaper.waitUntilFree())
        #expect(snapshot == nil)
        rig.reaper.stop()
    }

    @Test func `a sticky hash is even, and independent for each purpose`() {
        let ids = (0..<10_000).map { "\($0)" }
        let first = ids.map { StickyHash.fraction(of: $0, for: 1) }
        let second = ids.map { StickyHash.fraction(of: $0, for: 2) }
        for part in 0..<10 {
            let range = Double(part) / 10..<Double(part + 1) / 10
            #expect((850...1150).contains(first.count { range.contains($0) }))
        }
        let both = zip(first, second).count { $0 < 0.5 && $1 < 0.5 }
        #expect((2300...2700).contains(both))
        #expect(first.allSatisfy { (0..<1).contains($0) })
    }
}
