public import JSON
public import RecCore

/// Reads a filter, of a request or of the manifest: `{"all":[…]}`, `{"any":[…]}`, `{"not":…}`,
/// `{"field","in":[…]}`, `{"field","gte","gt","lte","lt"}`.
public enum FilterDecoder {
    /// Deepest nesting.
    public static let depthMaximum = 8
    /// Most predicates of one filter.
    public static let predicateMaximum = 64
    /// Most values of all its `in` together.
    public static let valueMaximum = 1024

    private static let names: Set<String> = ["all", "any", "not", "field", "in", "gte", "gt", "lte", "lt"]

    /// - Parameter isLenient: ignores members that no filter has; those of another form are refused all the
    ///   same, because to drop a condition would widen the filter.
    /// - Throws: on a wrong shape, or more levels, predicates or values than allowed.
    public static func decode(
        _ value: JSONValue, at pointer: String, isLenient: Bool = false
    ) throws(JSONSchemaError) -> ItemFilter {
        var budget = (predicates: predicateMaximum, values: valueMaximum)
        return try filter(value, pointer, depth: 1, isLenient, &budget)
    }

    // Recursion is bounded by `depthMaximum`.
    private static func filter(
        _ value: JSONValue, _ pointer: String, depth: Int, _ isLenient: Bool,
        _ budget: inout (predicates: Int, values: Int)
    ) throws(JSONSchemaError) -> ItemFilter {
        guard depth <= depthMaximum else {
            throw JSONSchemaError(.outOfRange, pointer, "nested deeper than \(depthMaximum)")
        }
        var reader = try JSONObjectReader(value, at: pointer, isLenient: isLenient)
        let result: ItemFilter
        if reader.object["field"] != nil {
            budget.predicates -= 1
            guard budget.predicates >= 0 else {
                throw JSONSchemaError(.outOfRange, pointer, "more than \(predicateMaximum) predicates")
            }
            result = try predicate(&reader, &budget.values)
        } else if let inner = reader.value("not") {
            result = .not(try filter(inner, reader.pointer(to: "not"), depth: depth + 1, isLenient, &budget))
        } else if let key = ["all", "any"].first(where: { reader.object[$0] != nil }) {
            var parts: [ItemFilter] = []
            for (index, part) in try reader.array(key, maximum: predicateMaximum).enumerated() {
                parts.append(
                    try filter(
                        part, reader.pointer(to: key) + "/\(index)", depth: depth + 1, isLenient, &budget))
            }
            result = key == "all" ? .all(parts) : .any(parts)
        } else {
            throw JSONSchemaError(.missing, pointer, "expected all, any, not or field")
        }
        if let name = reader.unread.first(where: names.contains) {
            throw JSONSchemaError(.unknownField, reader.pointer(to: name), "not in a filter of this form")
        }
        try reader.finish()
        return result
    }

    private static func predicate(_ reader: inout JSONObjectReader, _ budget: inout Int)
        throws(JSONSchemaError) -> ItemFilter
    {
        let field = try reader.string("field", bytes: 1...64)
        if let list = try reader.optionalArray("in", maximum: budget) {
            budget -= list.count
            var values: [FilterValue] = []
            for (index, value) in list.enumerated() {
                switch value {
                case .string(let text): values.append(.string(text))
                case .integer(let number): values.append(.number(Double(number)))
                case .number(let number): values.append(.number(number))
                case .boolean(let boolean): values.append(.boolean(boolean))
                default:
                    throw JSONSchemaError(
                        .wrongType, reader.pointer(to: "in") + "/\(index)",
                        "expected a string, number or boolean")
                }
            }
            return .isIn(field: field, values: values)
        }
        let bound = -1e300...1e300
        let gte = try reader.optionalNumber("gte", in: bound), gt = try reader.optionalNumber("gt", in: bound)
        let lte = try reader.optionalNumber("lte", in: bound), lt = try reader.optionalNumber("lt", in: bound)
        guard gte != nil || gt != nil || lte != nil || lt != nil else {
            throw JSONSchemaError(.missing, reader.pointer, "expected in, gte, gt, lte or lt")
        }
        return .range(field: field, greaterOrEqual: gte, greater: gt, lessOrEqual: lte, less: lt)
    }
}
