import HTTP
import JSON

extension KeyRing {
    /// What picks out a client certificate.
    enum CertificateName: Hashable, Sendable {
        case sha256([UInt8])
        case alternativeName(String)
        case commonName(String)

        /// Bytes of a name.
        private static let bytes = 1...255

        /// The one of three members by which an entry of `certificates` names its certificate.
        init(_ entry: inout JSONObjectReader) throws(JSONSchemaError) {
            var names: [CertificateName] = []
            if let text = try entry.optionalString("sha256") {
                names.append(.sha256(try KeyRing.digest(text, at: entry.pointer(to: "sha256"))))
            }
            if let text = try entry.optionalString("alternative_name", bytes: Self.bytes) {
                guard ["DNS:", "email:", "URI:"].contains(where: { text.hasPrefix($0) }) else {
                    throw JSONSchemaError(
                        .outOfRange, entry.pointer(to: "alternative_name"), "expected DNS:…, email:… or URI:…"
                    )
                }
                names.append(.alternativeName(text))
            }
            if let text = try entry.optionalString("common_name", bytes: Self.bytes) {
                names.append(.commonName(text))
            }
            guard names.count == 1 else {
                throw JSONSchemaError(
                    .missing, entry.pointer(to: "sha256"),
                    "expected one of sha256, alternative_name and common_name")
            }
            self = names[0]
        }
    }

    /// The owner of a verified certificate: by its digest, else by an alternative name, else by its common
    /// name.
    func caller(certificate: ClientCertificate) -> Caller? {
        guard !certificates.isEmpty else { return nil }
        if let caller = certificates[.sha256(certificate.sha256)] { return caller }
        for name in certificate.alternativeNames {
            if let caller = certificates[.alternativeName(name)] { return caller }
        }
        return certificate.commonName.flatMap { certificates[.commonName($0)] }
    }
}
