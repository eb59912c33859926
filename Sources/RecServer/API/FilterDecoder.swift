import JSON
import RecCore

/// Reads a filter: `{"all":[…]}`, `{"any":[…]}`, `{"not":…}`, `{"field","in":[…]}`,
/// `{"field","gte","gt","lte","lt"}`.
enum FilterDecoder {
    /// - Throws: on a wrong shape, more than 8 levels, 64 predicates or 1,024 values.
    static func decode(_ value: JSONValue, at pointer: String) throws(JSONSchemaError) -> ItemFilter {
        var budget = (
            predicates: RecommendRequest.Limits.filterPredicates, values: RecommendRequest.Limits.filterValues
        )
        return try filter(value, pointer, depth: 1, &budget)
    }

    // Recursion is bounded by `filterDepth`.
    private static func filter(
        _ value: JSONValue, _ pointer: String, depth: Int, _ budget: inout (predicates: Int, values: Int)
    ) throws(JSONSchemaError) -> ItemFilter {
        let limits = RecommendRequest.Limits.self
        guard depth <= limits.filterDepth else {
            throw JSONSchemaError(.outOfRange, pointer, "nested deeper than \(limits.filterDepth)")
        }
        var reader = try JSONObjectReader(value, at: pointer)
        let result: ItemFilter
        if reader.object["field"] != nil {
            budget.predicates -= 1
            guard budget.predicates >= 0 else {
                throw JSONSchemaError(.outOfRange, pointer, "more than \(limits.filterPredicates) predicates")
            }
            result = try predicate(&reader, &budget.values)
        } else if let inner = reader.value("not") {
            result = .not(try filter(inner, reader.pointer(to: "not"), depth: depth + 1, &budget))
        } else if let key = ["all", "any"].first(where: { reader.object[$0] != nil }) {
            var parts: [ItemFilter] = []
            for (index, part) in try reader.array(key, maximum: limits.filterPredicates).enumerated() {
                parts.append(
                    try filter(part, reader.pointer(to: key) + "/\(index)", depth: depth + 1, &budget))
            }
            result = key == "all" ? .all(parts) : .any(parts)
        } else {
            throw JSONSchemaError(.missing, pointer, "expected all, any, not or field")
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
