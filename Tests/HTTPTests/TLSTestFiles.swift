import COpenSSL
import Glibc

@testable import HTTP

/// An authority and certificates signed by it, made at run time as PEM files in a folder of their own.
@safe final class TLSTestFiles {
    enum KeyKind { case ecdsa, rsa }

    let folder: String
    private let authorityKey: OpaquePointer
    private let authority: OpaquePointer

    init() {
        // As the daemon does: a goodbye may meet a socket that is gone.
        _ = signal(SIGPIPE, SIG_IGN)
        var template = Array(("/tmp/recserver-tls-" + String(repeating: "X", count: 6)).utf8CString)
        _ = unsafe template.withUnsafeMutableBufferPointer { unsafe mkdtemp($0.baseAddress!) }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        unsafe authorityKey = Self.key(.ecdsa)
        unsafe authority = Self.certificate(
            name: "test authority", key: authorityKey, signer: nil, signerKey: authorityKey, days: 10,
            names: [],
            isAuthority: true)
        unsafe write("ca.pem") { bio in unsafe PEM_write_bio_X509(bio, authority) }
    }

    deinit {
        unsafe X509_free(authority)
        unsafe EVP_PKEY_free(authorityKey)
        for name in made { _ = unsafe unlink("\(folder)/\(name)") }
        _ = unsafe rmdir(folder)
    }

    private var made: [String] = []

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    func identity(_ name: String) -> TLSContext.Settings.Identity {
        .init(certificateFile: path("\(name).pem"), keyFile: path("\(name).key"))
    }

    /// Those of a server with the identity `server`.
    func settings(_ change: (inout TLSContext.Settings) -> Void = { _ in }) -> TLSContext.Settings {
        var settings = TLSContext.Settings(identities: [identity("server")])
        change(&settings)
        return settings
    }

    /// What a client shows.
    func pair(_ name: String) -> (certificate: String, key: String) {
        (path("\(name).pem"), path("\(name).key"))
    }

    /// Writes `NAME.pem` and `NAME.key`.
    func make(
        _ name: String, _ kind: KeyKind = .ecdsa, commonName: String? = nil, days: Int = 10,
        names: [String] = ["DNS:localhost"]
    ) {
        let key = unsafe Self.key(kind)
        let certificate = unsafe Self.certificate(
            name: commonName ?? name, key: key, signer: authority, signerKey: authorityKey, days: days,
            names: names, isAuthority: false)
        unsafe write("\(name).pem") { bio in unsafe PEM_write_bio_X509(bio, certificate) }
        unsafe write("\(name).key") { bio in
            unsafe PEM_write_bio_PrivateKey(bio, key, nil, nil, 0, nil, nil)
        }
        unsafe X509_free(certificate)
        unsafe EVP_PKEY_free(key)
    }

    func write(_ name: String, text: String) {
        let file = unsafe fopen(path(name), "w")
        unsafe fputs(text, file!)
        unsafe fclose(file!)
        if !made.contains(name) { made.append(name) }
    }

    /// Replaces a file by another one's of the same name.
    func copy(_ name: String, from other: TLSTestFiles) {
        unsafe write(name) { bio in unsafe PEM_write_bio_X509(bio, other.authority) }
    }

    private func write(_ name: String, _ body: (OpaquePointer?) -> Int32) {
        let bio = unsafe BIO_new_file(path(name), "w")
        precondition(unsafe body(bio) == 1)
        _ = unsafe BIO_free(bio)
        if !made.contains(name) { made.append(name) }
    }

    private static func key(_ kind: KeyKind) -> OpaquePointer {
        let context = unsafe EVP_PKEY_CTX_new_from_name(nil, kind == .rsa ? "RSA" : "EC", nil)
        defer { unsafe EVP_PKEY_CTX_free(context) }
        unsafe EVP_PKEY_keygen_init(context)
        switch kind {
        case .ecdsa: unsafe EVP_PKEY_CTX_set_group_name(context, "P-256")
        case .rsa: unsafe EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048)
        }
        var key: OpaquePointer?
        unsafe EVP_PKEY_generate(context, &key)
        return unsafe key!
    }

    private static func certificate(
        name: String, key: OpaquePointer, signer: OpaquePointer?, signerKey: OpaquePointer, days: Int,
        names: [String], isAuthority: Bool
    ) -> OpaquePointer {
        let certificate = unsafe X509_new()!
        unsafe X509_set_version(certificate, 2)
        unsafe ASN1_INTEGER_set(X509_get_serialNumber(certificate), Int.random(in: 1...1 << 40))
        unsafe X509_gmtime_adj(X509_getm_notBefore(certificate), -20 * 86_400)
        unsafe X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86_400)
        unsafe X509_set_pubkey(certificate, key)
        let subject = unsafe X509_NAME_new()
        unsafe X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, name, -1, -1, 0)
        unsafe X509_set_subject_name(certificate, subject)
        unsafe X509_set_issuer_name(
            certificate, signer.map { unsafe X509_get_subject_name($0) } ?? subject)
        unsafe X509_NAME_free(subject)
        var extensions = [(NID_basic_constraints, isAuthority ? "critical,CA:TRUE" : "critical,CA:FALSE")]
        if !names.isEmpty { extensions.append((NID_subject_alt_name, names.joined(separator: ","))) }
        for (identifier, value) in extensions {
            let one = unsafe X509V3_EXT_conf_nid(nil, nil, identifier, value)
            unsafe X509_add_ext(certificate, one, -1)
            unsafe X509_EXTENSION_free(one)
        }
        precondition(unsafe X509_sign(certificate, signerKey, EVP_sha256()) > 0)
        return unsafe certificate
    }
}
