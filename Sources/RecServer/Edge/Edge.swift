import HTTP

/// What is done to every answer and every body of the main listeners, whatever the endpoint: other origins,
/// compression.
struct Edge: Sendable {
    let origins: CrossOrigins?
    let compression: Compression?
    /// Most bytes of a body, also inflated.
    private let bodyMax: Int
    private let eventsBodyMax: Int

    init(
        origins: CrossOrigins? = nil, compression: Compression? = nil, bodyMax: Int = 1 << 20,
        eventsBodyMax: Int = 1 << 22
    ) {
        self.origins = origins
        self.compression = compression
        self.bodyMax = bodyMax
        self.eventsBodyMax = eventsBodyMax
    }

    /// What the settings say.
    init(_ configuration: Configuration) throws(Configuration.Invalid) {
        self.init(
            origins: try CrossOrigins(setting: configuration.text("cors_origins")),
            compression: configuration.text("compression") == "on"
                ? Compression(
                    least: configuration.integer("compress_min"),
                    idleEncoders: configuration.integer("loops") + 8) : nil,
            bodyMax: configuration.integer("body_max"),
            eventsBodyMax: configuration.integer("events_body_max"))
    }

    /// The answer as it goes out.
    /// - Parameter compresses: false on threads that must not work that long.
    func completed(
        _ response: HTTPResponse, for request: HTTPRequest, compresses: Bool = true
    ) -> HTTPResponse {
        var response = response
        var varies: [String] = []
        if let origins {
            response.headers += origins.headers(for: request)
            if origins.varies { varies.append("Origin") }
        }
        if compresses, let compression, compression.apply(to: &response, for: request) {
            varies.append("Accept-Encoding")
        }
        if !varies.isEmpty { response.headers.append(("Vary", varies.joined(separator: ", "))) }
        return response
    }

    /// The job with its body as it was before it was coded, within the body's limit.
    /// - Throws: `.badRequest` for what is damaged, `.contentTooLarge`.
    func inflated(_ job: Job) throws(Problem) -> Job {
        guard !job.request.body.isEmpty, RequestCoding.isGzip(job.request.headers), job.match.takesBody else {
            return job
        }
        var job = job
        do throws(GzipDecoder.Failure) {
            job.request.body = try GzipDecoder.decode(
                job.request.body, limit: job.match == .events ? eventsBodyMax : bodyMax)
        } catch {
            switch error {
            case .damaged: throw Problem(.badRequest, "the body is not the gzip that it says it is")
            case .tooLarge: throw Problem(.contentTooLarge, "the body is too large once it is inflated")
            case .unavailable: throw Problem(.overloaded, "no memory for the body", retryAfter: 1)
            }
        }
        return job
    }
}

/// `Content-Encoding` of requests: gzip, alone.
enum RequestCoding {
    /// - Throws: `.unsupportedCoding` for a coding that is not understood here.
    static func check(_ request: HTTPRequest, allowsGzip: Bool) throws(Problem) {
        guard !request.body.isEmpty else { return }
        for coding in codings(request.headers) where coding != "identity" {
            guard allowsGzip, coding == "gzip" || coding == "x-gzip" else {
                throw unsupported(allowsGzip)
            }
        }
        if codings(request.headers).count(where: { $0 != "identity" }) > 1 { throw unsupported(allowsGzip) }
    }

    static func isGzip(_ headers: HTTPHeaders) -> Bool {
        codings(headers).contains { $0 == "gzip" || $0 == "x-gzip" }
    }

    private static func unsupported(_ allowsGzip: Bool) -> Problem {
        Problem(
            .unsupportedCoding, allowsGzip ? "send the body as it is, or as gzip" : "send the body as it is")
    }

    private static func codings(_ headers: HTTPHeaders) -> [String] {
        guard headers.count(of: "Content-Encoding") > 0 else { return [] }
        return headers.values(of: "Content-Encoding").flatMap { value in
            value.split(separator: ",", omittingEmptySubsequences: false).map { element in
                String(element.filter { $0 != " " && $0 != "\t" }).lowercased()
            }
        }
    }
}

extension Router.Match {
    /// Whether a body means something.
    var takesBody: Bool {
        switch self {
        case .recommend, .events, .user(.replace, _), .user(.patch, _): true
        default: false
        }
    }
}
