import HTTP
import JSON
import RecCore

/// The body of `PUT` or `PATCH /users/{user_id}`.
struct UserRequest {
    /// Named limits of what is kept; `openapi.yaml` says the same.
    enum Limits {
        /// Names and texts of a user's features together.
        static let featureBytes = 65_536
    }

    /// As the store keeps it; nil leaves it.
    let hasConsent: Bool?
    private let isPatch: Bool
    /// The member `features`: nil when it is not there, null when it is null.
    private let features: JSONValue?

    /// - Parameter isPatch: a merge patch (RFC 7396): null takes away, what is not there stays.
    init(_ request: HTTPRequest, isPatch: Bool) throws(Problem) {
        self.isPatch = isPatch
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
            if isPatch, reader.object["consent"] == .null {
                throw JSONSchemaError(.wrongType, "/consent", "expected a boolean: consent is always known")
            }
            hasConsent = try reader.optionalBoolean("consent")
            _ = reader.value("features")
            features = reader.object["features"]
            try reader.finish()
            _ = try Self.features(features, onto: [:])
        } catch {
            throw Problem(error)
        }
    }

    /// The features that a user with `old` ones has from then on; nil leaves them.
    /// - Throws: `.outOfRange` when they are too many together.
    func features(of old: FeatureValues) throws(Problem) -> FeatureValues? {
        guard isPatch else { return try merged([:]) }
        return features == nil ? nil : try merged(features == .null ? [:] : old)
    }

    private func merged(_ old: FeatureValues) throws(Problem) -> FeatureValues {
        do throws(JSONSchemaError) { return try Self.features(features, onto: old) } catch {
            throw Problem(error)
        }
    }

    private static func features(
        _ value: JSONValue?, onto old: FeatureValues
    ) throws(JSONSchemaError) -> FeatureValues {
        guard let value, value != .null else { return old }
        let object = try JSONObjectReader(value, at: "/features")
        var features = old
        let new = try RecommendRequest.features(object)
        for member in object.object.members { features[member.name] = new[member.name] }
        guard features.count <= RecommendRequest.Limits.features else {
            throw JSONSchemaError(
                .outOfRange, "/features", "more than \(RecommendRequest.Limits.features) features")
        }
        guard byteCount(features) <= Limits.featureBytes else {
            throw JSONSchemaError(.outOfRange, "/features", "more than \(Limits.featureBytes) bytes of text")
        }
        return features
    }

    private static func byteCount(_ features: FeatureValues) -> Int {
        features.reduce(0) { sum, feature in
            let texts: [String] =
                switch feature.value {
                case .string(let text): [text]
                case .strings(let texts): texts
                case .number, .boolean: []
                }
            return texts.reduce(sum + feature.key.utf8.count) { $0 + $1.utf8.count }
        }
    }
}
