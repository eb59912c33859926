internal import Artifacts
internal import RecCore

/// A filter ready to be asked about rows: predicates in the order of evaluation, each with where to go when
/// true and when false.
///
/// A missing attribute makes a predicate false, and so its `not` true; a multi-valued one matches if any
/// value does. Frozen, shared by all threads.
public struct CompiledFilter: Sendable {
    /// Deepest nesting that is compiled.
    public static let depthMaximum = 16
    /// Most predicates that are compiled.
    public static let predicatesMaximum = 256

    private enum Test: Sendable {
        case codes(offsets: [Int], values: [UInt32], wanted: [UInt32])  // wanted ascending
        case numbers([Double], present: [UInt8]?, wanted: [Double])
        case range([Double], present: [UInt8]?, above: Double, orAt: Bool, below: Double, orAtBelow: Bool)
        case booleans([UInt8], present: [UInt8]?, wantsFalse: Bool, wantsTrue: Bool)
    }
    private struct Step: Sendable {
        let test: Test
        let onTrue: Int
        let onFalse: Int
    }
    private static let accept = -1
    private static let reject = -2

    private var steps: [Step] = []
    private var start = accept

    /// - Parameter column: the storage of a field; throws when the field may not be filtered by.
    init(
        _ filter: ItemFilter, column: (String) throws(RetrievalError) -> AttributeColumn
    ) throws(RetrievalError) {
        start = try compile(filter, onTrue: Self.accept, onFalse: Self.reject, depth: 1, column)
    }

    /// Whether `row` passes; traps when out of range. O(predicates), without allocation.
    public func matches(_ row: Int) -> Bool {
        var at = start
        while at >= 0 { at = Self.holds(steps[at].test, row) ? steps[at].onTrue : steps[at].onFalse }
        return at == Self.accept
    }

    /// What passes both filters; `other` is asked second.
    public func and(_ other: CompiledFilter) -> CompiledFilter {
        // The second filter's steps stay where they are, and accepting means going there.
        let shift = other.steps.count
        func moved(_ target: Int) -> Int {
            target == Self.accept ? other.start : target == Self.reject ? target : target + shift
        }
        var both = other
        both.steps += steps.map {
            Step(test: $0.test, onTrue: moved($0.onTrue), onFalse: moved($0.onFalse))
        }
        both.start = moved(start)
        return both
    }

    // MARK: - Compilation

    /// Adds `filter`'s steps, from the last to the first so that every target is known, and returns where to
    /// enter.
    private mutating func compile(
        _ filter: ItemFilter, onTrue: Int, onFalse: Int, depth: Int,
        _ column: (String) throws(RetrievalError) -> AttributeColumn
    ) throws(RetrievalError) -> Int {
        guard depth <= Self.depthMaximum else { throw .filterTooLarge }
        switch filter {
        case .all(let children):
            var entry = onTrue
            for child in children.reversed() {
                entry = try compile(child, onTrue: entry, onFalse: onFalse, depth: depth + 1, column)
            }
            return entry
        case .any(let children):
            var entry = onFalse
            for child in children.reversed() {
                entry = try compile(child, onTrue: onTrue, onFalse: entry, depth: depth + 1, column)
            }
            return entry
        case .not(let child):
            return try compile(child, onTrue: onFalse, onFalse: onTrue, depth: depth + 1, column)
        case .isIn(let field, let values):
            return try add(Self.membership(field, values, column(field)), onTrue: onTrue, onFalse: onFalse)
        case .range(let field, let greaterOrEqual, let greater, let lessOrEqual, let less):
            guard case .numbers(let numbers, let present) = try column(field).storage else {
                throw .filterType(field: field, expected: "strings or booleans, not a range")
            }
            // The tighter of two lower bounds: the larger, and of equal ones the open one; likewise above.
            let above = max(greaterOrEqual ?? -.infinity, greater ?? -.infinity)
            let below = min(lessOrEqual ?? .infinity, less ?? .infinity)
            let test = Test.range(
                numbers, present: present, above: above, orAt: greater != above, below: below,
                orAtBelow: less != below)
            return try add(test, onTrue: onTrue, onFalse: onFalse)
        }
    }

    private mutating func add(_ test: Test, onTrue: Int, onFalse: Int) throws(RetrievalError) -> Int {
        guard steps.count < Self.predicatesMaximum else { throw .filterTooLarge }
        steps.append(Step(test: test, onTrue: onTrue, onFalse: onFalse))
        return steps.count - 1
    }

    private static func membership(
        _ field: String, _ values: [FilterValue], _ column: AttributeColumn
    ) throws(RetrievalError) -> Test {
        switch column.storage {
        case .strings(let column):
            var wanted: Set<UInt32> = []
            for value in values {
                guard case .string(let word) = value else {
                    throw .filterType(field: field, expected: "strings")
                }
                if let code = column.code(of: word) { wanted.insert(code) }
            }
            return .codes(offsets: column.offsets, values: column.values, wanted: wanted.sorted())
        case .numbers(let numbers, let present):
            var wanted: [Double] = []
            for value in values {
                guard case .number(let number) = value else {
                    throw .filterType(field: field, expected: "numbers")
                }
                wanted.append(number)
            }
            return .numbers(numbers, present: present, wanted: wanted)
        case .booleans(let flags, let present):
            var wanted: Set<Bool> = []
            for value in values {
                guard case .boolean(let flag) = value else {
                    throw .filterType(field: field, expected: "booleans")
                }
                wanted.insert(flag)
            }
            return .booleans(
                flags, present: present, wantsFalse: wanted.contains(false), wantsTrue: wanted.contains(true))
        }
    }

    // MARK: - Evaluation

    private static func holds(_ test: Test, _ row: Int) -> Bool {
        switch test {
        case .codes(let offsets, let values, let wanted):
            for i in offsets[row]..<offsets[row + 1] where contains(wanted, values[i]) { return true }
            return false
        case .numbers(let numbers, let present, let wanted):
            guard present?[row] != 0 else { return false }
            return wanted.contains(numbers[row])
        case .range(let numbers, let present, let above, let orAt, let below, let orAtBelow):
            guard present?[row] != 0 else { return false }
            let x = numbers[row]
            return (x > above || (orAt && x == above)) && (x < below || (orAtBelow && x == below))
        case .booleans(let flags, let present, let wantsFalse, let wantsTrue):
            guard present?[row] != 0 else { return false }
            return flags[row] != 0 ? wantsTrue : wantsFalse
        }
    }

    private static func contains(_ ascending: [UInt32], _ code: UInt32) -> Bool {
        // 8: below it a straight look is quicker than halving.
        if ascending.count <= 8 { return ascending.contains(code) }
        var low = 0
        var high = ascending.count
        while low < high {
            let middle = (low + high) / 2
            if ascending[middle] < code { low = middle + 1 } else { high = middle }
        }
        return low < ascending.count && ascending[low] == code
    }
}
