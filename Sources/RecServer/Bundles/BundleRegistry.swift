import Synchronization
import Threading

/// The versions that are loaded and the labels they serve under.
///
/// Requests ask `choose` once, under one short lock, and keep what they got; changes never wait for requests.
/// What no label needs any more goes to the reaper.
final class BundleRegistry: Sendable {
    /// Most versions loaded at a time; each is a whole model in memory.
    static let versionsMaximum = 4

    /// What a label stands for.
    struct Assignment: Sendable {
        let bundle: LoadedBundle
        /// Share of requests, 0…1; 1 for the default.
        var share: Double
        /// Wall clock of the switch, nanoseconds since 1970.
        let since: Int64
        var previous: Previous?
    }

    /// What a label stood for before.
    struct Previous: Sendable {
        let modelVersion: String
        let digest: String
        let path: String
        let share: Double
        /// Nil when it is not kept in memory.
        var bundle: LoadedBundle?
    }

    /// Why a label or a version is not changed.
    enum Refusal: Error, Equatable, CustomStringConvertible {
        case unknownVersion(String)
        case ambiguousVersion(String)
        case unassigned(BundleLabel)
        case pinned(BundleLabel)
        case isDefault
        case noPrevious(BundleLabel)
        case tooMany

        var description: String {
            switch self {
            case .unknownVersion(let name): "no loaded version is \(name)"
            case .ambiguousVersion(let name): "several loaded versions are \(name): name it by its sha256"
            case .unassigned(let label): "\(label.rawValue) stands for no version that could be moved"
            case .pinned(let label): "\(label.rawValue) is pinned"
            case .isDefault: "the default's version cannot be removed"
            case .noPrevious(let label): "\(label.rawValue) has stood for no other version"
            case .tooMany: "\(BundleRegistry.versionsMaximum) versions are in use, which is the most"
            }
        }
    }

    /// Who answers a request.
    struct Choice {
        let bundle: LoadedBundle
        /// Nil when the request named an exact version.
        let label: BundleLabel?
        /// Who computes it once more, unseen.
        let shadow: LoadedBundle?
    }

    private struct State: Sendable {
        var assignments: [BundleLabel: Assignment] = [:]
        var pinned: Set<BundleLabel> = []

        /// Every loaded version once: those in use, then those kept for a rollback.
        var versions: [LoadedBundle] {
            let used = BundleLabel.allCases.compactMap { assignments[$0]?.bundle }
            let kept = BundleLabel.allCases.compactMap { assignments[$0]?.previous?.bundle }
            var unique: [LoadedBundle] = []
            for bundle in used + kept where !unique.contains(where: { $0 === bundle }) {
                unique.append(bundle)
            }
            return unique
        }
    }

    private let state = Lock(State())
    private let changes = Atomic<Int>(0)
    private let reaper: BundleReaper
    private let keepsPrevious: Bool
    let historyBudget: HistoryBudget
    let swaps: [BundleLabel: Counter]

    /// - Parameters:
    ///   - keepsPrevious: whether a label's previous version stays loaded for a rollback.
    ///   - historyBudget: what the versions' history caches share.
    init(reaper: BundleReaper, keepsPrevious: Bool, historyBudget: HistoryBudget) {
        self.historyBudget = historyBudget
        self.reaper = reaper
        self.keepsPrevious = keepsPrevious
        swaps = Dictionary(uniqueKeysWithValues: BundleLabel.allCases.map { ($0, Counter()) })
    }

    // MARK: Reading

    /// How often anything has changed.
    var changeCount: Int { changes.load(ordering: .acquiring) }

    /// Whether there is anything to answer from.
    var isReady: Bool { state.withLock { $0.assignments[.default] != nil } }

    /// What `label` stands for now.
    func assignment(_ label: BundleLabel) -> Assignment? { state.withLock { $0.assignments[label] } }

    /// Every loaded version, those in use first.
    var versions: [LoadedBundle] { state.withLock { $0.versions } }

    func isPinned(_ label: BundleLabel) -> Bool { state.withLock { $0.pinned.contains(label) } }

    /// The loaded version whose manifest has this digest.
    func version(digest: String) -> LoadedBundle? { versions.first { $0.digest == digest } }

    /// The folders of all known versions, loaded or kept for a rollback: where a delta's base may be.
    var folders: [String] {
        state.withLock { state in
            state.versions.map(\.path) + state.assignments.values.compactMap { $0.previous?.path }
        }
    }

    private static let canaryPurpose: UInt64 = 1
    private static let shadowPurpose: UInt64 = 2

    /// Who answers a request.
    /// - Parameters:
    ///   - model: a label or the exact `model_version` of a loaded version; nil leaves the choice here.
    ///   - userID: what the choice sticks to; without one it is `requestID`.
    func choose(model: String?, userID: String?, requestID: String) throws(Problem) -> Choice {
        let (assignments, versions) = state.withLock { ($0.assignments, model == nil ? [] : $0.versions) }
        guard let main = assignments[.default] else {
            throw Problem(.notReady, "no bundle is loaded yet", retryAfter: 1)
        }
        if let model, model != BundleLabel.default.rawValue {
            if model == BundleLabel.canary.rawValue, let canary = assignments[.canary] {
                return Choice(bundle: canary.bundle, label: .canary, shadow: nil)
            }
            // A shadow answers nobody, under its label.
            guard BundleLabel(rawValue: model) == nil,
                let version = versions.first(where: { $0.modelVersion == model })
            else {
                throw Problem(
                    .unknownModel, "no model answers under this name",
                    errors: [.init(pointer: "/model", detail: "neither a label in use nor a loaded version")])
            }
            return Choice(bundle: version, label: nil, shadow: nil)
        }
        if model == nil, let canary = assignments[.canary],
            StickyHash.fraction(of: userID ?? requestID, for: Self.canaryPurpose) < canary.share
        {
            return Choice(bundle: canary.bundle, label: .canary, shadow: nil)
        }
        let shadow = assignments[.shadow].flatMap { shadow in
            StickyHash.fraction(of: requestID, for: Self.shadowPurpose) < shadow.share ? shadow.bundle : nil
        }
        return Choice(bundle: main.bundle, label: .default, shadow: shadow)
    }

    // MARK: Changing

    /// Makes `bundle` what `label` stands for, in one step.
    /// - Parameters:
    ///   - share: of requests; nil keeps the label's, at first 0.1.
    ///   - pinned: nil leaves it as it is.
    /// - Returns: false when it already was; then only share and pin change.
    @discardableResult
    func publish(_ bundle: LoadedBundle, as label: BundleLabel, share: Double?, pinned: Bool?)
        throws(Refusal) -> Bool
    {
        try change { state throws(Refusal) in
            let old = state.assignments[label]
            let share = label == .default ? 1 : share ?? old?.share ?? Self.firstShare
            if old?.bundle === bundle {
                state.assignments[label]?.share = share
                Self.pin(label, pinned, &state)
                return false
            }
            guard pinned == false || !state.pinned.contains(label) else { throw .pinned(label) }
            state.assignments[label] = Assignment(
                bundle: bundle, share: share, since: WallClock.nanoseconds, previous: old.map(replaced))
            Self.pin(label, pinned, &state)
            guard state.versions.count <= Self.versionsMaximum else { throw .tooMany }
            swaps[label]?.add()
            return true
        }
    }

    private static let firstShare = 0.1

    private static func pin(_ label: BundleLabel, _ pinned: Bool?, _ state: inout State) {
        switch pinned {
        case true: state.pinned.insert(label)
        case false: state.pinned.remove(label)
        default: break
        }
    }

    private func replaced(_ old: Assignment) -> Previous {
        Previous(
            modelVersion: old.bundle.modelVersion, digest: old.bundle.digest, path: old.bundle.path,
            share: old.share, bundle: keepsPrevious ? old.bundle : nil)
    }

    /// Gives `target` what `source` stands for, and takes it from `source`.
    func promote(_ source: BundleLabel, to target: BundleLabel) throws(Refusal) {
        try change { state throws(Refusal) in
            guard let promoted = state.assignments[source], source != .default else {
                throw .unassigned(source)
            }
            for label in [source, target] where state.pinned.contains(label) { throw .pinned(label) }
            state.assignments[source] = nil
            let old = state.assignments[target]
            if old?.bundle === promoted.bundle { return }
            state.assignments[target] = Assignment(
                bundle: promoted.bundle, share: target == .default ? 1 : promoted.share,
                since: WallClock.nanoseconds, previous: old.map(replaced))
            swaps[target]?.add()
        }
    }

    /// How a rollback goes on.
    enum Rollback {
        case done
        /// The version is no longer in memory: load it again.
        case needsLoad(Previous)
    }

    /// Goes back to what `label` stood for before.
    func rollBack(_ label: BundleLabel) throws(Refusal) -> Rollback {
        try change { state throws(Refusal) in
            guard let current = state.assignments[label] else { throw .unassigned(label) }
            guard let previous = current.previous else { throw .noPrevious(label) }
            guard !state.pinned.contains(label) else { throw .pinned(label) }
            let loaded = previous.bundle ?? state.versions.first { $0.digest == previous.digest }
            guard let bundle = loaded else { return .needsLoad(previous) }
            state.assignments[label] = Assignment(
                bundle: bundle, share: previous.share, since: WallClock.nanoseconds,
                previous: replaced(current))
            swaps[label]?.add()
            return .done
        }
    }

    /// While pinned, a label keeps its version: loads, SIGHUP, promotions and rollbacks are refused.
    func setPinned(_ label: BundleLabel, _ isPinned: Bool) throws(Refusal) {
        try change { state throws(Refusal) in
            guard state.assignments[label] != nil else { throw .unassigned(label) }
            Self.pin(label, isPinned, &state)
        }
    }

    /// Takes a version, named by `model_version` or digest, out of canary, shadow and what is kept.
    func remove(_ name: String) throws(Refusal) {
        try change { state throws(Refusal) in
            let found = state.versions.filter { $0.modelVersion == name || $0.digest == name }
            guard let bundle = found.first else { throw .unknownVersion(name) }
            guard found.count == 1 else { throw .ambiguousVersion(name) }
            guard state.assignments[.default]?.bundle !== bundle else { throw .isDefault }
            for label in BundleLabel.allCases {
                if state.assignments[label]?.bundle === bundle {
                    guard !state.pinned.contains(label) else { throw .pinned(label) }
                    state.assignments[label] = nil
                } else if state.assignments[label]?.previous?.bundle === bundle {
                    state.assignments[label]?.previous?.bundle = nil
                }
            }
        }
    }

    /// Lets go of what is only kept for a rollback, which then has to load it again; false when nothing is.
    func dropKept() -> Bool {
        let before = versions.count
        change { state in
            for label in BundleLabel.allCases { state.assignments[label]?.previous?.bundle = nil }
        }
        return versions.count < before
    }

    /// Gives every version's history cache its part of the budget, also that of one that is about to come.
    func divideHistoryBudget(next: LoadedBundle? = nil) {
        let (assignments, versions) = state.withLock { ($0.assignments, $0.versions) }
        historyBudget.divide(assignments, versions: versions, next: next)
    }

    /// One change as a whole or not at all; what it leaves without a label is retired.
    private func change<Result: Sendable, E: Error>(_ body: (inout State) throws(E) -> Result) throws(E)
        -> Result
    {
        // Outside the lock, so that nothing is freed under it.
        var gone: [LoadedBundle] = []
        let result = try state.withLock { (state) throws(E) -> Result in
            var changed = state
            let result = try body(&changed)
            let left = changed.versions
            gone = state.versions.filter { old in !left.contains { $0 === old } }
            state = changed
            return result
        }
        changes.wrappingAdd(1, ordering: .releasing)
        for bundle in gone { historyBudget.retire(bundle) }
        divideHistoryBudget()
        for bundle in gone { reaper.retire(bundle) }
        return result
    }
}
