import HTTP
import Threading

/// Answers in the coding that the client likes best. All answers are text, so only their size decides.
final class Compression: Sendable {
    /// Bytes of the smallest content that is compressed.
    let least: Int
    private let encoders: LendingShelf<ContentEncoder>
    /// Bytes of answers before and after.
    let bytesBefore = Counter()
    let bytesAfter = Counter()

    /// - Parameter idleEncoders: kept with their memory; there is one for each thread that needs one at the
    ///   same moment.
    init(least: Int, idleEncoders: Int = 8) {
        self.least = least
        encoders = LendingShelf(capacity: idleEncoders) { ContentEncoder() }
    }

    /// Codes the content where the client wants that and it helps; HEAD gets the same fields as GET.
    /// - Returns: whether another client would get another content.
    func apply(to response: inout HTTPResponse, for request: HTTPRequest) -> Bool {
        if response.headers.contains(where: { $0.0 == "Content-Encoding" }) { return true }
        guard response.body.count >= least else { return false }
        let wanted = request.headers.values(of: "Accept-Encoding")
        guard !wanted.isEmpty, let coding = ContentCoding(acceptEncoding: wanted) else { return true }
        let content = response.body
        guard let coded = encoders.lend({ $0.encode(content, as: coding) }) else { return true }
        bytesBefore.add(content.count)
        bytesAfter.add(coded.count)
        response.body = coded
        response.headers.append(("Content-Encoding", coding.rawValue))
        return true
    }
}

/// A content that stays the same, in every coding from the start.
struct CodedContent: Sendable {
    let plain: [UInt8]
    private let coded: [ContentCoding: [UInt8]]

    init(_ plain: [UInt8]) {
        self.plain = plain
        // The best levels there are: it is done once.
        let encoder = ContentEncoder(gzipLevel: 9, zstdLevel: 19)
        coded = Dictionary(
            uniqueKeysWithValues: ContentCoding.allCases.compactMap { coding in
                encoder.encode(plain, as: coding).map { (coding, $0) }
            })
    }

    /// An answer with it, in the coding that the client likes best.
    func response(for request: HTTPRequest, headers: [(String, String)]) -> HTTPResponse {
        var headers = headers
        let coding = ContentCoding(acceptEncoding: request.headers.values(of: "Accept-Encoding"))
        guard let coding, let content = coded[coding] else {
            return HTTPResponse(status: 200, headers: headers, body: plain)
        }
        headers.append(("Content-Encoding", coding.rawValue))
        return HTTPResponse(status: 200, headers: headers, body: content)
    }
}
