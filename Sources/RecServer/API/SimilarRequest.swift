import Artifacts
import HTTP
import JSON
import RecCore

/// The path and query of `GET /similar/{item_id}`.
struct SimilarRequest {
    let itemID: String
    var count = 20
    var fields: [String] = ["title"]
    var exclude: [String] = []
    var filter: ItemFilter?
    var placement: String?

    /// - Parameter query: as on the wire; `n`, `filter` and `placement` once, `exclude` and `fields` repeated
    ///   (one empty `fields` for none).
    init(itemID: String, query: String?) throws(Problem) {
        self.itemID = itemID
        guard let query, !query.isEmpty else { return }
        guard let parameters = QueryString(query, countMax: RecommendRequest.Limits.exclude + 100)?.parameters
        else {
            throw Problem(.badRequest, "the query string is malformed")
        }
        var fields: [String]?
        var seen: Set<String> = []
        do throws(JSONSchemaError) {
            for (name, value) in parameters {
                let isFirst = seen.insert(name).inserted
                switch name {
                case "n" where isFirst:
                    guard let number = Int(value) else {
                        throw JSONSchemaError(.wrongType, "/n", "expected an integer")
                    }
                    count = try JSONObjectReader.integer(
                        .integer(Int64(number)), at: "/n", in: RecommendRequest.Limits.page)
                case "filter" where isFirst:
                    let document: JSONValue
                    do throws(JSONSyntaxError) { document = try JSONParser.parse(Array(value.utf8)) } catch {
                        throw JSONSchemaError(.wrongType, "/filter", "not JSON: \(error.description)")
                    }
                    filter = try FilterDecoder.decode(document, at: "/filter")
                case "placement" where isFirst:
                    placement = try JSONObjectReader.string(
                        .string(value), at: "/placement", bytes: 1...64)
                case "exclude":
                    exclude.append(
                        try JSONObjectReader.string(
                            .string(value), at: "/exclude", bytes: RecommendRequest.Limits.idBytes))
                case "fields":
                    if value.isEmpty { fields = fields ?? [] } else { fields = (fields ?? []) + [value] }
                case "n", "filter", "placement": throw JSONSchemaError(.outOfRange, "/\(name)", "given twice")
                default:
                    throw JSONSchemaError(
                        .unknownField, JSONObjectReader.pointer("", name), "unknown parameter")
                }
            }
            if exclude.count > RecommendRequest.Limits.exclude {
                throw JSONSchemaError(.outOfRange, "/exclude", "too many")
            }
            if fields?.count ?? 0 > RecommendRequest.Limits.fields {
                throw JSONSchemaError(.outOfRange, "/fields", "too many")
            }
        } catch {
            throw Problem(error)
        }
        self.fields = fields ?? self.fields
    }
}
