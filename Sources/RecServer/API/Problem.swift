import JSON

/// An error answer, RFC 9457 `application/problem+json`: the one place where failures become HTTP.
struct Problem: Error, Equatable {
    /// One offending place in the request's body or query.
    struct FieldError: Equatable {
        let pointer: String
        let detail: String
    }

    /// Every kind of problem with its status; the raw value is the last part of `type`.
    enum Kind: String, CaseIterable {
        case malformedJSON = "malformed-json"
        case unknownField = "unknown-field"
        case wrongType = "wrong-type"
        case outOfRange = "out-of-range"
        case badRequest = "bad-request"
        case unauthorized
        case forbidden
        case noConsent = "no-consent"
        case notFound = "not-found"
        case unknownItem = "unknown-item"
        case unknownUser = "unknown-user"
        case unknownEvent = "unknown-event"
        case methodNotAllowed = "method-not-allowed"
        case timeout = "request-timeout"
        case conflict
        case cursorExpired = "cursor-expired"
        case sequenceNotReached = "sequence-not-reached"
        case contentTooLarge = "content-too-large"
        case targetTooLong = "target-too-long"
        case unsupportedMediaType = "unsupported-media-type"
        case unsupportedCoding = "unsupported-content-coding"
        case expectationFailed = "expectation-failed"
        case cursorWithFields = "cursor-with-fields"
        case unknownTask = "unknown-task"
        case unknownFilterField = "unknown-filter-field"
        case unknownPlacement = "unknown-placement"
        case unknownModel = "unknown-model"
        case unknownVariant = "unknown-variant"
        case bundleRefused = "bundle-refused"
        case rateLimited = "rate-limited"
        case tooOld = "too-old"
        case tooNew = "too-new"
        case headersTooLarge = "headers-too-large"
        case internalError = "internal"
        case notImplemented = "not-implemented"
        case overloaded
        case notReady = "not-ready"
        case stateUnavailable = "state-unavailable"
        case deadline
        case unsupportedVersion = "http-version"

        var status: Int {
            switch self {
            case .malformedJSON, .unknownField, .wrongType, .outOfRange, .badRequest: 400
            case .unauthorized: 401
            case .forbidden, .noConsent: 403
            case .notFound, .unknownItem, .unknownUser, .unknownEvent: 404
            case .methodNotAllowed: 405
            case .timeout: 408
            case .conflict: 409
            case .cursorExpired: 410
            case .sequenceNotReached: 412
            case .contentTooLarge: 413
            case .targetTooLong: 414
            case .unsupportedMediaType, .unsupportedCoding: 415
            case .expectationFailed: 417
            case .cursorWithFields, .unknownTask, .unknownFilterField, .unknownPlacement, .unknownModel,
                .unknownVariant, .bundleRefused, .tooOld, .tooNew:
                422
            case .rateLimited: 429
            case .headersTooLarge: 431
            case .internalError: 500
            case .notImplemented: 501
            case .overloaded, .notReady, .stateUnavailable: 503
            case .deadline: 504
            case .unsupportedVersion: 505
            }
        }

        var title: String {
            switch self {
            case .malformedJSON: "The body is not strict JSON"
            case .unknownField: "The request has a field this server does not know"
            case .wrongType: "A field has the wrong type"
            case .outOfRange: "A field is out of range"
            case .badRequest: "The request is malformed"
            case .unauthorized: "The request needs an API key"
            case .forbidden: "The peer may not do this"
            case .noConsent: "The user does not consent"
            case .notFound: "There is nothing here"
            case .unknownItem: "The item is not in the catalogue"
            case .unknownUser: "Nothing is held of the user"
            case .unknownEvent: "The user has no such event"
            case .methodNotAllowed: "The method is not allowed here"
            case .timeout: "The request did not arrive in time"
            case .conflict: "The state of the server does not allow this"
            case .cursorExpired: "The cursor's slate is not held any more"
            case .cursorWithFields: "A cursor goes with n alone"
            case .sequenceNotReached: "What the token stands for is not seen here"
            case .contentTooLarge: "The body is too large"
            case .targetTooLong: "The request target is too long"
            case .unsupportedMediaType: "The body's media type is not supported"
            case .unsupportedCoding: "The body's coding is not supported"
            case .expectationFailed: "The expectation cannot be met"
            case .unknownTask: "A weight names a task the model does not have"
            case .unknownFilterField: "A filter names an attribute that cannot be filtered"
            case .unknownPlacement: "The model has no such placement"
            case .unknownModel: "The request names a model that does not answer"
            case .unknownVariant: "The experiment has no such arm"
            case .bundleRefused: "The bundle is not one that can serve"
            case .rateLimited: "Too many requests"
            case .tooOld: "The event is older than what is kept"
            case .tooNew: "The event is in the future"
            case .headersTooLarge: "The headers are too large"
            case .internalError: "The server failed"
            case .notImplemented: "Not implemented"
            case .overloaded: "The server is at capacity"
            case .notReady: "The server is not ready"
            case .stateUnavailable: "The user state cannot be written or read"
            case .deadline: "The deadline passed"
            case .unsupportedVersion: "The HTTP version is not supported"
            }
        }
    }

    let kind: Kind
    var detail: String?
    var errors: [FieldError] = []
    /// Seconds for `Retry-After`, with 429 and 503.
    var retryAfter: Int?
    /// Methods for `Allow`, with 405.
    var allow: String?

    init(
        _ kind: Kind, _ detail: String? = nil, errors: [FieldError] = [], retryAfter: Int? = nil,
        allow: String? = nil
    ) {
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.retryAfter = retryAfter
        self.allow = allow
    }

    init(_ error: JSONSyntaxError) { self.init(.malformedJSON, error.description) }

    init(_ error: JSONSchemaError) {
        let kind: Kind =
            switch error.kind {
            case .unknownField: .unknownField
            case .wrongType: .wrongType
            case .outOfRange, .missing: .outOfRange
            }
        self.init(kind, errors: [FieldError(pointer: error.pointer, detail: error.detail)])
    }

    /// The body.
    /// - Parameter line: of a batch, from 1.
    func encoded(requestID: String?, line: Int? = nil) -> [UInt8] {
        var writer = JSONWriter()
        write(to: &writer, requestID: requestID, line: line)
        return writer.bytes
    }

    /// The body as a value of a larger one.
    func write(to writer: inout JSONWriter, requestID: String? = nil, line: Int? = nil) {
        writer.beginObject()
        writer.key("type")
        writer.value("urn:recserver:problem:" + kind.rawValue)
        writer.key("title")
        writer.value(kind.title)
        writer.key("status")
        writer.value(kind.status)
        // What went wrong inside is for the log alone.
        if let detail, kind != .internalError {
            writer.key("detail")
            writer.value(detail)
        }
        if !errors.isEmpty {
            writer.key("errors")
            writer.beginArray()
            for error in errors {
                writer.beginObject()
                writer.key("pointer")
                writer.value(error.pointer)
                writer.key("detail")
                writer.value(error.detail)
                writer.endObject()
            }
            writer.endArray()
        }
        if let line {
            writer.key("line")
            writer.value(line)
        }
        if let requestID {
            writer.key("request_id")
            writer.value(requestID)
        }
        writer.endObject()
    }
}
