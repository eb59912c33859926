/// What a client's verified certificate says of it; one object for all requests of its connection.
public final class ClientCertificate: Sendable, Equatable {
    /// The SHA-256 of the certificate's DER form, 32 bytes.
    public let sha256: [UInt8]
    /// The subject's common name; nil unless it has exactly one.
    public let commonName: String?
    /// The subject's alternative names as `DNS:…`, `email:…` and `URI:…`; at most 64.
    public let alternativeNames: [String]
    /// Unix seconds from which on the certificate counts no more.
    public let expires: Int64

    /// A certificate whose verification is the caller's word.
    public init(sha256: [UInt8], commonName: String?, alternativeNames: [String], expires: Int64) {
        self.sha256 = sha256
        self.commonName = commonName
        self.alternativeNames = alternativeNames
        self.expires = expires
    }

    /// True for the same certificate.
    public static func == (one: ClientCertificate, other: ClientCertificate) -> Bool {
        one.sha256 == other.sha256
    }
}
