import Artifacts
import JSON
import Kernels

/// One line of `golden.jsonl`: a request and the trainer's own numbers for the stages it names, flattened row
/// by row.
struct Golden {
    let line: Int
    let request: RecommendRequest
    let stages: [String: [Double]]

    static let lineMaximum = 10_000
    static let lineBytesMaximum = 1 << 20
    static let file = "golden.jsonl"

    /// The stages a bundle may state (ModelFormat.md §4), in pipeline order.
    static let stageNames = [
        "tower.user_vector", "tower.score", "sequence.rows", "sequence.last_row", "sequence.dot",
        "sequence.vector", "sequence.score",
        "ranker.features", "ranker.logits", "ranker.probabilities", "value",
    ]

    /// Reads the file; throws naming the line.
    static func read(_ bytes: [UInt8]) throws(BundleError) -> [Golden] {
        var goldens: [Golden] = []
        for (index, line) in bytes.split(separator: 0x0A, omittingEmptySubsequences: true).enumerated() {
            guard index < lineMaximum, line.count <= lineBytesMaximum else {
                throw BundleError(
                    file: file, expected: "at most \(lineMaximum) lines of \(lineBytesMaximum) bytes",
                    found: "more at line \(index + 1)")
            }
            goldens.append(try golden(Array(line), line: index + 1))
        }
        return goldens
    }

    private static func golden(_ bytes: [UInt8], line: Int) throws(BundleError) -> Golden {
        func refuse(_ found: String) -> BundleError {
            BundleError(file: file, tensor: "line \(line)", expected: "a request with stages", found: found)
        }
        let document: JSONValue
        do { document = try JSONParser.parse(bytes) } catch { throw refuse(error.description) }
        do {
            var reader = try JSONObjectReader(document, at: "")
            let body = try reader.required("request", reader.value("request"))
            let stages = try reader.reader("stages")
            try reader.finish()
            var values: [String: [Double]] = [:]
            for member in stages.object.members {
                guard stageNames.contains(member.name) else {
                    throw JSONSchemaError(.unknownField, stages.pointer(to: member.name), "unknown stage")
                }
                var flat: [Double] = []
                try flatten(member.value, stages.pointer(to: member.name), depth: 0, into: &flat)
                values[member.name] = flat
            }
            let request: RecommendRequest
            do { request = try RecommendRequest(body) } catch {
                throw refuse(
                    "request: "
                        + (error.errors.first.map { "\($0.pointer): \($0.detail)" } ?? error.kind.rawValue))
            }
            guard request.candidates != nil, request.now != nil else {
                throw refuse("a request without candidates or now")
            }
            return Golden(line: line, request: request, stages: values)
        } catch let error as BundleError {
            throw error
        } catch let error as JSONSchemaError {
            throw refuse(error.description)
        } catch {
            throw refuse("\(error)")
        }
    }

    private static func flatten(_ value: JSONValue, _ pointer: String, depth: Int, into flat: inout [Double])
        throws(JSONSchemaError)
    {
        if case .array(let elements) = value, depth < 2 {
            for element in elements { try flatten(element, pointer, depth: depth + 1, into: &flat) }
        } else {
            flat.append(try JSONObjectReader.number(value, at: pointer, in: -1e30...1e30))
        }
    }
}

/// How far this server's numbers are from the goldens, stage by stage.
struct GoldenReport {
    /// One stage over all goldens that state it.
    struct StageResult {
        let name: String
        var requests = 0
        var values = 0
        /// Largest |a − b| as a share of what is allowed; ≤ 1 passes. Infinite when the shapes differ.
        var worst = 0.0
        var worstLine = 0
        var isWithin: Bool { worst <= 1 }
    }

    private(set) var stages: [StageResult] = Golden.stageNames.map { StageResult(name: $0) }
    private(set) var goldens = 0
    let tolerance: Double

    init(tolerance: Double) { self.tolerance = tolerance }

    var isWithin: Bool { stages.allSatisfy(\.isWithin) }
    /// The first stage in pipeline order that is off: the place to look.
    var firstFailure: StageResult? { stages.first { !$0.isWithin } }

    /// Compares one golden; equal means |a − b| ≤ tol·|b| + tol/10·rms(b of this request).
    mutating func add(_ golden: Golden, ours: [String: [Float]]) {
        goldens += 1
        for index in stages.indices {
            guard let theirs = golden.stages[stages[index].name] else { continue }
            stages[index].requests += 1
            stages[index].values += theirs.count
            let worst = Self.worst(theirs, ours[stages[index].name] ?? [], tolerance)
            if worst > stages[index].worst || (worst.isInfinite && stages[index].worstLine == 0) {
                stages[index].worst = worst
                stages[index].worstLine = golden.line
            }
        }
    }

    private static func worst(_ theirs: [Double], _ ours: [Float], _ tolerance: Double) -> Double {
        guard theirs.count == ours.count else { return .infinity }
        guard !theirs.isEmpty else { return 0 }
        let rms = (theirs.reduce(0) { $0 + $1 * $1 } / Double(theirs.count)).squareRoot()
        var worst = 0.0
        for (a, b) in zip(ours, theirs) {
            let difference = abs(Double(a) - b)
            // A stage that is all zeros must be zero: anything else is infinitely far.
            let share = difference == 0 ? 0 : difference / (tolerance * abs(b) + tolerance / 10 * rms)
            worst = max(worst, share.isNaN ? .infinity : share)
        }
        return worst
    }
}
