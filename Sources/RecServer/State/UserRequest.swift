import HTTP
import JSON
import UserState

/// The body of `PUT` or `PATCH /users/{user_id}`.
struct UserRequest {
    /// What becomes of the features; nil leaves them.
    let features: FeatureChange?
    /// What becomes of the consent; nil leaves it.
    let hasConsent: Bool?

    /// - Parameter isPatch: a merge patch (RFC 7396): null takes away, what is not there stays.
    init(_ request: HTTPRequest, isPatch: Bool) throws(Problem) {
        let types = isPatch ? ["application/merge-patch+json", "application/json"] : ["application/json"]
        guard types.contains(request.mediaType) else {
            throw Problem(.unsupportedMediaType, "send Content-Type: \(types.joined(separator: " or "))")
        }
        let document: JSONValue
        do throws(JSONSyntaxError) { document = try JSONParser.parse(request.body) } catch {
            throw Problem(error)
        }
        do throws(JSONSchemaError) {
            var reader = try JSONObjectReader(document, at: "")
            let isNull = reader.object["features"] == .null
            if isPatch, reader.object["consent"] == .null {
                throw JSONSchemaError(.wrongType, "/consent", "expected a boolean, found null")
            }
            hasConsent = try reader.optionalBoolean("consent")
            let object = try reader.optionalObject("features")
            let values = try object.map(RecommendRequest.features)
            try reader.finish()
            if let object, let values, isPatch {
                // `values` has no names whose value is null.
                features = .merge(
                    Dictionary(uniqueKeysWithValues: object.object.members.map { ($0.name, values[$0.name]) })
                )
            } else {
                features = isPatch && !isNull ? nil : .replace(values ?? [:])
            }
        } catch {
            throw Problem(error)
        }
    }

    /// The features would be more than may be kept.
    static var tooMuch: Problem {
        let (count, bytes) = (FeatureChange.countMaximum, FeatureChange.byteCountMaximum)
        let detail = "more than \(count) features, or than \(bytes) bytes of names and texts"
        return Problem(.outOfRange, errors: [.init(pointer: "/features", detail: detail)])
    }
}
