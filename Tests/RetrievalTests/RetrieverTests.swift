import Artifacts
import Kernels
import RecCore
import Retrieval
import TestSupport
import Testing

@Suite struct RetrieverTests {
    static let count = 900
    let bundle = TinyBundle(count: count, seed: 51)
    let table: VectorTable
    let sequenceTable: VectorTable
    let model: RetrievalModel
    let queries: Matrix
    let sequenceQueries: Matrix

    init() throws {
        var random = SeededRandom(52)
        table = VectorTable(random.gaussians(Self.count, 8), metric: .innerProduct)
        sequenceTable = RetrievalModel.sequenceTable(
            random.gaussians(Self.count, 6), head: DotHead(normalize: .l2))
        queries = random.gaussians(20, 8)
        sequenceQueries = random.gaussians(20, 6)
        model = RetrievalModel(
            configuration: RetrievalConfiguration(
                metric: .innerProduct, dimension: 8, candidates: 40, index: IndexConfiguration(kind: .flat),
                quotas: SourceQuotas(tower: 20, sequence: 15, itemToItem: 10, popular: 5)),
            catalog: try bundle.catalog(), table: table, items: FlatIndex(table),
            sequence: FlatIndex(sequenceTable))
    }

    func request(_ q: Int, minimum: Int = 10) -> RetrievalRequest {
        var request = RetrievalRequest(model.configuration, minimum: minimum)
        request.towerQuery = queries.view.row(q)
        request.sequenceQuery = sequenceQueries.view.row(q)
        return request
    }

    /// Rows by exact score, best first, by the definition.
    func ranking(_ metric: Metric, _ query: [Float], _ vectors: Matrix) -> [Int] {
        let scores = (0..<Self.count).map { exactScore(metric, query, vectors.copyRow($0)) }
        return scores.indices.sorted { scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 < $1 }
    }

    @Test func `sources merge by best rank, then score, each row once with all its sources`() throws {
        let retriever = Retriever(model)
        for q in 0..<20 {
            var request = request(q)
            request.recent = [3, 8, 8, 5, 3, 11]
            let result = try retriever.retrieve(request)
            // The slow twin: every source's list, then a sort.
            var best: [Int: (rank: Int, sources: CandidateSources)] = [:]
            func add(_ rows: [Int], _ source: CandidateSources) {
                for (rank, row) in rows.enumerated() {
                    let old = best[row] ?? (Int.max, [])
                    best[row] = (min(old.rank, rank), old.sources.union(source))
                }
            }
            add(Array(ranking(.innerProduct, queries.copyRow(q), table.vectors).prefix(20)), .tower)
            add(
                Array(ranking(.cosine, sequenceQueries.copyRow(q), sequenceTable.vectors).prefix(15)),
                .sequence)
            let seeds = [11, 3, 5]
            let lists = seeds.map {
                ranking(.cosine, table.vectors.copyRow($0), table.vectors).filter { !seeds.contains($0) }
            }
            // A row that two seeds have takes two turns, as two ranks of one source.
            add((0..<10).map { lists[$0 % 3][$0 / 3] }, .itemToItem)
            add(model.catalog.popularOrder.prefix(5).map(Int.init), .popular)
            let scores = try retriever.score(Array(best.keys), query: queries.view.row(q))
            let scoreOf = Dictionary(uniqueKeysWithValues: zip(best.keys, scores))
            let expected = best.keys.sorted { a, b in
                let x = best[a]!, y = best[b]!
                if x.rank != y.rank { return x.rank < y.rank }
                return scoreOf[a]! != scoreOf[b]! ? scoreOf[a]! > scoreOf[b]! : a < b
            }.prefix(40)
            #expect(result.candidates.map(\.row) == Array(expected))
            for candidate in result.candidates {
                #expect(candidate.sources == best[candidate.row]!.sources)
                let exact = exactScore(
                    .innerProduct, queries.copyRow(q), table.vectors.copyRow(candidate.row))
                #expect(abs(Double(candidate.retrievalScore) - exact) < 1e-4)
            }
            #expect(!result.isShort && !result.isScanned)
        }
    }

    @Test
    func
        `no candidate is excluded, refused by the filter or repeated, and a page is short only with the catalogue`()
        throws
    {
        let retriever = Retriever(model)
        var random = SeededRandom(53)
        var shortPages = 0, scans = 0
        for round in 0..<300 {
            let filter = Bool.random(using: &random) ? nil : TinyBundle.filter(depth: 3, &random)
            let excluded = (0..<Int.random(in: 0...1, using: &random) * 200).map { _ in
                Int.random(in: 0..<Self.count, using: &random)
            }
            let minimum = [1, 20, 60, 400].randomElement(using: &random)!
            var request = request(round % 20, minimum: minimum)
            if Int.random(in: 0..<4, using: &random) == 0 { request.towerQuery = nil }
            if Bool.random(using: &random) { request.sequenceQuery = nil }
            if Bool.random(using: &random) { request.recent = [1, 2] }
            request.filter = try filter.map { try model.catalog.compile($0) }
            request.excluded = excluded
            let result = try retriever.retrieve(request)
            let allowed = Set(
                (0..<Self.count).filter { row in
                    (filter.map { bundle.matches($0, row) } ?? true) && !excluded.contains(row)
                })
            let rows = result.candidates.map(\.row)
            #expect(Set(rows).count == rows.count)
            #expect(allowed.isSuperset(of: rows))
            #expect(rows.count <= max(40, minimum))
            #expect(rows.count >= min(minimum, allowed.count))
            #expect(result.isShort == (allowed.count < minimum))
            #expect(result.candidates.allSatisfy { $0.retrievalScore.isFinite && !$0.sources.isEmpty })
            shortPages += result.isShort ? 1 : 0
            scans += result.isScanned ? 1 : 0
        }
        #expect(shortPages > 10 && scans > 20)
    }

    @Test func `a starving filter gets the exact best of the matching rows`() throws {
        let retriever = Retriever(model)
        let filter = ItemFilter.all([
            .isIn(field: "genre", values: [.string("war")]), .isIn(field: "year", values: [.number(1995)]),
        ])
        let matching = (0..<Self.count).filter { bundle.matches(filter, $0) }
        #expect(matching.count > 2 && matching.count < 30)
        for q in 0..<5 {
            var request = request(q, minimum: matching.count)
            request.sequenceQuery = nil
            request.quotas = SourceQuotas(tower: 20)
            request.filter = try model.catalog.compile(filter)
            let result = try retriever.retrieve(request)
            let expected = ranking(.innerProduct, queries.copyRow(q), table.vectors).filter {
                matching.contains($0)
            }
            #expect(result.candidates.map(\.row) == expected)
            #expect(result.isScanned && !result.isShort)
            #expect(result.candidates.allSatisfy { $0.sources.contains(.scan) })
            request.minimum += 1
            #expect(try retriever.retrieve(request).isShort)
        }
    }

    @Test func `a request that says nothing gets the popular list`() throws {
        let retriever = Retriever(model)
        let result = try retriever.retrieve(RetrievalRequest(model.configuration, minimum: 30))
        #expect(result.candidates.map(\.row) == model.catalog.popularOrder.prefix(30).map(Int.init))
        #expect(result.candidates.allSatisfy { $0.sources == .popular && $0.retrievalScore == 0 })
        #expect(!result.isShort)
    }

    @Test func `an answer does not depend on the requests before it`() throws {
        let worn = Retriever(model)
        for q in 0..<20 {
            var request = request(q, minimum: q * 10)
            request.recent = [q, q + 1]
            request.excluded = Array(0..<q * 5)
            let fresh = try Retriever(model).retrieve(request)
            let result = try worn.retrieve(request)
            #expect(result.candidates.map(\.row) == fresh.candidates.map(\.row))
            #expect(result.candidates.map(\.sources) == fresh.candidates.map(\.sources))
        }
    }

    @Test
    func `similar items are the exact neighbours by cosine without the item, excluded and filtered ones`()
        throws
    {
        let retriever = Retriever(model)
        let filter = ItemFilter.isIn(field: "adult", values: [.boolean(true)])
        let compiled = try model.catalog.compile(filter)
        for row in [0, 17, 899] {
            let all = ranking(.cosine, table.vectors.copyRow(row), table.vectors).filter { $0 != row }
            #expect(try retriever.similar(to: row, k: 12).map(\.row) == Array(all.prefix(12)))
            let excluded = Array(all.prefix(3))
            let expected = all.filter { !excluded.contains($0) && bundle.matches(filter, $0) }
            for k in [0, 5, 899] {
                let similar = try retriever.similar(to: row, k: k, filter: compiled, excluded: excluded)
                #expect(similar.map(\.row) == Array(expected.prefix(k)))
                #expect(similar.allSatisfy { abs($0.score) <= 1.0001 })
            }
        }
    }

    @Test func `a query with a NaN is a typed error and the retriever goes on`() throws {
        let retriever = Retriever(model)
        let bad = Matrix(rows: 1, columns: 8, values: [Float](repeating: .nan, count: 8))
        var request = request(0)
        request.towerQuery = bad.view
        #expect(throws: RetrievalError.notFinite) { try retriever.retrieve(request) }
        #expect(try retriever.retrieve(self.request(0)).candidates.count == 40)
    }

    @Test func `quotas outside every limit are cut, not obeyed`() throws {
        let retriever = Retriever(model)
        var request = request(0, minimum: -5)
        request.quotas = SourceQuotas(tower: .max, sequence: -1, itemToItem: .max, popular: .min)
        request.recent = [4]
        request.candidates = 10
        #expect(try retriever.retrieve(request).candidates.count == 10)
        request.candidates = -3
        request.settings = SearchSettings(probes: .max, shortlistFactor: .max)
        #expect(try retriever.retrieve(request).candidates.isEmpty)
    }
}
