import Artifacts
import Kernels
import Retrieval
import TestSupport
import Testing

@testable import RecServer

extension SmallBundle {
    func floats(_ name: String) -> Matrix {
        guard case .floats(let values, let shape)? = tensors[name] else {
            return Matrix(rows: 0, columns: 0, values: [])
        }
        return Matrix(rows: shape.count == 1 ? 1 : shape[0], columns: shape.last ?? 0, values: values)
    }

    /// The bundle with its item vectors mapped, and nothing else: another training's space.
    func moved(by map: DoubleMatrix, noise: Float = 0) -> SmallBundle {
        var bundle = self
        var random = SeededRandom(77)
        let values = floats("item.vector").mapped(by: map).view.copy()
            .map { $0 + Float.random(in: -noise...noise, using: &random) }
        bundle.tensors["item.vector"] = .floats(values, shape: [Self.items, Self.dimension])
        return bundle
    }
}

@Suite struct SpaceTests {
    static let identity = DoubleMatrix(diagonal: .init(repeating: 1, count: SmallBundle.dimension))

    static func rotation(_ seed: UInt64) -> DoubleMatrix {
        var random = SeededRandom(seed)
        let d = SmallBundle.dimension
        let values = (0..<d * d).map { _ in Double.random(in: -1...1, using: &random) }
        let (u, _, vt) = DoubleMatrix(rows: d, columns: d, values: values).singularValues()!
        return u.product(vt)
    }

    /// A rotation of the first two axes by `angle`'s sine and cosine.
    static func turn(sine: Double) -> DoubleMatrix {
        var map = identity
        let cosine = (1 - sine * sine).squareRoot()
        (map[0, 0], map[0, 1], map[1, 0], map[1, 1]) = (cosine, sine, -sine, cosine)
        return map
    }

    static var permuted: DoubleMatrix {
        let d = SmallBundle.dimension
        var map = DoubleMatrix(diagonal: .init(repeating: 0, count: d))
        for i in 0..<d { map[i, (i + 1) % d] = 1 }
        return map
    }

    // MARK: - The check

    static func check(_ bundle: SmallBundle) throws -> BundleError? {
        do {
            #expect(try SpaceCheck.verify(new: bundle.snapshot(), against: SmallBundle.loaded()) != nil)
            return nil
        } catch let error as BundleError {
            return error
        }
    }

    @Test func `vectors that moved a little share the space`() throws {
        for noise in [0, 0.1, 0.3] as [Float] {
            #expect(try Self.check(SmallBundle().moved(by: Self.identity, noise: noise)) == nil)
        }
        #expect(try Self.check(SmallBundle().moved(by: Self.turn(sine: 0.1))) == nil)
    }

    @Test func `a rotated, permuted, mirrored or unrelated space is refused by name`() throws {
        var mirrored = Self.identity
        for i in 0..<SmallBundle.dimension { mirrored[i, i] = -1 }
        var halfMirrored = Self.identity
        for i in 0..<3 { halfMirrored[i, i] = -1 }
        for bundle in [
            SmallBundle().moved(by: Self.rotation(1)), SmallBundle().moved(by: Self.rotation(2), noise: 0.1),
            SmallBundle().moved(by: Self.permuted), SmallBundle().moved(by: mirrored),
            SmallBundle().moved(by: halfMirrored), SmallBundle(seed: 2),
        ] {
            let error = try Self.check(bundle)
            #expect(error?.file == "manifest.json" && error?.tensor == "/space_version")
            #expect(error?.expected.contains("the space small of small-1") == true)
            #expect(error?.found.contains("over 40 shared items") == true)
        }
    }

    @Test func `many vectors that a rotation brings nearer are refused though they are near`() throws {
        var random = SeededRandom(8)
        let reference = Matrix(
            rows: 2000, columns: 4, values: (0..<8000).map { _ in Float.random(in: -1...1, using: &random) })
        let pairs = (0..<2000).map { ($0, $0) }
        for (sine, isGood) in [(0.0, true), (0.2, true), (0.6, false)] {
            var map = DoubleMatrix(diagonal: [1, 1, 1, 1])
            let cosine = (1 - sine * sine).squareRoot()
            for i in [0, 2] {
                (map[i, i], map[i, i + 1], map[i + 1, i], map[i + 1, i + 1]) = (cosine, sine, -sine, cosine)
            }
            let check = try SpaceCheck(reference.mapped(by: map), reference, shared: pairs)
            #expect(check.count == SpaceCheck.sampleMaximum && abs(check.cosine - cosine) < 1e-4)
            #expect(abs(check.gain - (1 - cosine)) < 1e-4 && check.isGood == isGood)
        }
        #expect(try !SpaceCheck(reference, reference, shared: []).isGood)
        #expect(try SpaceCheck(reference, reference, shared: [(1, 1)]).isGood)
    }

    @Test func `another name of the space needs no likeness, another dimension or metric has none`() throws {
        let other = try SmallBundle.loaded()
        var renamed = SmallBundle(seed: 2)
        renamed.manifest = renamed.manifest.replacing(
            #""space_version":"small""#, with: #""space_version":"other""#)
        #expect(try SpaceCheck.verify(new: renamed.snapshot(), against: other) == nil)
        var metric = SmallBundle()
        metric.manifest = metric.manifest.replacing(#""metric":"inner_product""#, with: #""metric":"l2""#)
        let error = try Self.check(metric)
        #expect(error?.tensor == "/space_version" && error?.expected.contains("metric innerProduct") == true)
    }

    // MARK: - align

    static let bodies = [
        #"{"candidates":[{"item_id":"i1"},{"item_id":"i7"},{"item_id":"i30"}],"now":1700000000,"user_id":"u5"}"#,
        #"{"candidates":[{"item_id":"i2"},{"item_id":"i9"}],"now":1700000000,"history":[{"item_id":"i2"}]}"#,
        #"{"candidates":[{"item_id":"i3"}],"now":1700000000,"user":{"age":30},"context":{"device":"tv"}}"#,
    ]

    static func stages(_ snapshot: Snapshot) throws -> [[String: [Float]]] {
        let pipeline = try RecommendPipeline(snapshot)
        return try bodies.map { try pipeline.stages(of: RecommendRequest(body: Array($0.utf8))) }
    }

    /// The bundle with goldens of its own numbers.
    static func withGoldens(_ bundle: SmallBundle) throws -> SmallBundle {
        var bundle = bundle
        bundle.others["golden.jsonl"] = nil
        let lines = zip(bodies, try stages(bundle.snapshot())).map { body, stages in
            let texts = stages.sorted { $0.key < $1.key }.map { "\"\($0)\":\($1)" }
            return "{\"request\":\(body),\"stages\":{\(texts.joined(separator: ","))}}"
        }
        bundle.others["golden.jsonl"] = Array(lines.joined(separator: "\n").utf8)
        return bundle
    }

    /// Aligns `bundle` onto `reference`; the snapshot loads, goldens and all.
    static func align(_ bundle: SmallBundle, onto reference: SmallBundle) throws -> (
        report: Alignment.Report, snapshot: Snapshot, folder: TemporaryFolder
    ) {
        let (a, b, out) = (try TemporaryFolder(), try TemporaryFolder(), try TemporaryFolder())
        try reference.write(to: a)
        try bundle.write(to: b)
        let loader = try SmallBundle.loader()
        let report = try Alignment(loader: loader).run(reference: a.path, bundle: b.path, out: out.path)
        return (report, try loader.load(out.path), out)
    }

    static func renamed(_ bundle: SmallBundle) -> SmallBundle {
        var bundle = bundle
        bundle.manifest = bundle.manifest.replacing(
            #""space_version":"small""#, with: #""space_version":"retrained""#)
        return bundle
    }

    static func expectSameStages(_ new: Snapshot, _ old: Snapshot) throws {
        for (a, b) in zip(try stages(new), try stages(old)) {
            #expect(Set(a.keys) == Set(b.keys))
            for (name, values) in a where name != "tower.user_vector" {
                let worst = zip(values, b[name] ?? []).map { abs($0 - $1) }.max() ?? 0
                #expect(worst < 2e-5, "\(name): \(worst)")
            }
        }
    }

    @Test(arguments: [1, 0])
    func `an aligned bundle is in the reference's space and answers as before`(layers: Int) throws {
        let reference = SmallBundle(towerLayers: layers)
        let bundle = try Self.withGoldens(
            Self.renamed(SmallBundle(towerLayers: layers).moved(by: Self.rotation(5), noise: 0.05)))
        let (report, snapshot, folder) = try Self.align(bundle, onto: reference)
        #expect(!report.before.isGood && report.after.isGood && report.after.cosine > 0.99)
        #expect(report.scoreDifference < 1e-5 && report.scoreSize > 0.1 && !report.isCanonical)
        #expect(snapshot.manifest.spaceVersion == "small" && snapshot.manifest.modelVersion == "small-1")
        #expect(try SpaceCheck.verify(new: snapshot, against: reference.snapshot()) != nil)
        let before = try bundle.snapshot()
        try Self.expectSameStages(snapshot, before)
        // Whole answers too, /similar among them.
        let (a, b) = (try RecommendPipeline(snapshot), try RecommendPipeline(before))
        for body in [#"{"user_id":"u6","now":1700000000,"n":20}"#, #"{"query_items":["i4","i5"],"n":9}"#] {
            #expect(try a.answer(body).items.map(\.itemID) == b.answer(body).items.map(\.itemID))
        }
        #expect(try folder.names() == ["golden.jsonl", "manifest.json", "model.safetensors"])
        // Once more: nothing is left to turn.
        #expect(
            throws: BundleError.self, "a folder with a bundle is not overwritten",
            performing: {
                try AlignedBundle(
                    folder: BundleFolder(path: folder.path), snapshot: snapshot,
                    alignment: SpaceAlignment(
                        rotating: snapshot.retrieval.table.vectors, onto: snapshot.retrieval.table.vectors,
                        shared: (0..<40).map { ($0, $0) }), changesItemProducts: false, spaceVersion: "small"
                ).write(to: folder.path, progress: ProgressLine { _ in })
            })
    }

    /// A bundle whose scores are plain inner products.
    static func unnormalised(_ bundle: SmallBundle) -> SmallBundle {
        var bundle = bundle
        bundle.manifest = bundle.manifest.replacing(
            #""relu","normalize":"l2""#, with: #""relu","normalize":"none""#)
        return bundle
    }

    @Test func `without norms the canonical form undoes any invertible map`() throws {
        // With goldens: their users count, and the second bundle has the same.
        let first = try Self.withGoldens(Self.unnormalised(SmallBundle()))
        let (_, reference, referenceFolder) = try Self.align(first, onto: first)
        // Another training: items stretched by G, the tower's last layer by its inverse transposed.
        let stretch = (0..<8).map { 0.7 + 0.1 * Double($0) }
        let (left, right) = (Self.rotation(6), Self.rotation(7))
        let g = left.product(DoubleMatrix(diagonal: stretch)).product(right)
        let h = left.product(DoubleMatrix(diagonal: stretch.map { 1 / $0 })).product(right)
        var second = first.moved(by: g)
        // The pooled history reads the vectors as they were.
        second.tensors["feature.recent.weight"] = first.tensors["item.vector"]
        second.manifest = second.manifest.replacing(
            #""table":"item.vector""#, with: #""table":"feature.recent.weight""#)
        let weight = DoubleMatrix(first.floats("tower.user.0.weight"), rows: 0..<8)
        let bias = DoubleMatrix(first.floats("tower.user.0.bias"), rows: 0..<1)
        second.tensors["tower.user.0.weight"] = .floats(
            h.product(weight, transposingSelf: true).floats.view.copy(), shape: [8, 20])
        second.tensors["tower.user.0.bias"] = .floats(bias.product(h).floats.copyRow(0), shape: [8])
        second = try Self.withGoldens(Self.renamed(second))
        let (folder, out) = (try TemporaryFolder(), try TemporaryFolder())
        try second.write(to: folder)
        let loader = try SmallBundle.loader()
        let report = try Alignment(loader: loader).run(
            reference: referenceFolder.path, bundle: folder.path, out: out.path)
        #expect(report.isCanonical && report.after.cosine > 0.9999 && report.scoreDifference < 1e-4)
        let snapshot = try loader.load(out.path)
        try Self.expectSameStages(snapshot, second.snapshot())
        let (ours, theirs) = (snapshot.retrieval.table.vectors, reference.retrieval.table.vectors)
        #expect(zip(ours.view.copy(), theirs.view.copy()).allSatisfy { abs($0 - $1) < 1e-3 })
        // Items are compared with items as before, though their inner products changed.
        let (a, b) = (snapshot.retrieval.similarTable, try second.snapshot().retrieval.similarTable)
        #expect(a.vectors.view.copy() == b.vectors.view.copy() && a.metric == .cosine)
    }

    @Test func `what cannot be aligned is refused by name, and nothing is written`() throws {
        var stage = SmallBundle()
        stage.manifest = stage.manifest.replacing(
            #""stage":"sequence.vector""#, with: #""stage":"tower.user_vector""#)
        var foreign = SmallBundle()
        foreign.tensors["item_ids.bytes"] = .bytes(
            (0..<40).flatMap { Array(($0 < 10 ? "x\($0)" : "x\($0)").utf8) })
        var metric = SmallBundle()
        metric.manifest = metric.manifest.replacing(#""metric":"inner_product""#, with: #""metric":"l2""#)
        for (bundle, tensor) in [
            (stage, "/features/11"), (foreign, "item_ids"), (metric, "/retrieval"),
            (SmallBundle(seed: 2), "item.vector"),
        ] {
            let error = #expect(throws: BundleError.self) { try Self.align(bundle, onto: SmallBundle()) }
            #expect(error?.tensor == tensor, "\(error?.description ?? "")")
        }
    }
}
