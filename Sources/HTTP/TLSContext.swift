internal import COpenSSL
import Synchronization
import Threading

/// Certificates, keys and rules of TLS listeners, read from files and read again on `reload`.
///
/// New handshakes take what was read last; sessions keep what they began with. Any thread.
public final class TLSContext: Sendable {
    /// Where certificates come from, and what is asked of clients.
    public struct Settings: Sendable, Equatable {
        /// A certificate with its intermediates behind it, and its key: PEM files.
        public struct Identity: Sendable, Equatable {
            /// The file of the certificate, followed by those between it and the authority.
            public var certificateFile: String
            /// The file of the private key, without a passphrase.
            public var keyFile: String

            /// The two files of an identity.
            public init(certificateFile: String, keyFile: String) {
                self.certificateFile = certificateFile
                self.keyFile = keyFile
            }
        }

        /// The oldest version that is spoken.
        public enum Version: String, Sendable, CaseIterable {
            /// TLS 1.2.
            case v12 = "1.2"
            /// TLS 1.3.
            case v13 = "1.3"
        }

        /// Whether clients show a certificate; one that is shown must be valid in any case.
        public enum ClientAuthentication: String, Sendable, CaseIterable {
            /// None is asked for.
            case none
            /// Clients without one are served too.
            case optional
            /// The handshake fails without one.
            case required
        }

        /// At most one for each kind of key, such as RSA and ECDSA; clients get the one they can verify.
        public var identities: [Identity]
        /// The oldest version that is spoken.
        public var minimumVersion = Version.v12
        /// Whether clients show a certificate.
        public var clientAuthentication = ClientAuthentication.none
        /// The PEM file of the authorities whose client certificates are valid; needed to ask for any.
        public var clientAuthorityFile: String?
        /// For how long a key seals session tickets; it opens them as long again. Zero for no tickets.
        public var ticketRotation = Duration.seconds(3600)
        /// Protocols by ALPN in the server's order of preference.
        public var protocols = ["h2", "http/1.1"]

        /// The defaults, with these identities.
        public init(identities: [Identity]) { self.identities = identities }
    }

    /// What was set.
    public let settings: Settings
    private let tickets: TLSTickets
    private let present: Lock<TLSConfiguration>

    /// Reads the files.
    /// - Throws: `.tls`, naming the file.
    public convenience init(_ settings: Settings) throws(HTTPError) {
        try self.init(settings, now: { MonotonicClock.nanoseconds })
    }

    /// The same with a clock for tickets: monotonic nanoseconds.
    init(_ settings: Settings, now: @escaping @Sendable () -> UInt64) throws(HTTPError) {
        self.settings = settings
        let tickets = TLSTickets(
            interval: settings.ticketRotation.nanosecondsClamped, now: now,
            random: { TLSConfiguration.randomBytes($0) })
        self.tickets = tickets
        present = Lock(try TLSConfiguration(settings, tickets))
    }

    /// Reads the files again; when anything is wrong with them, what was read before stays.
    /// - Throws: `.tls`, naming the file.
    public func reload() throws(HTTPError) {
        let new = try TLSConfiguration(settings, tickets)
        present.withLock { $0 = new }
    }

    /// Unix seconds at which the first of the certificates in use expires.
    public var expires: Int64 { present.withLock { $0.expires } }

    /// What new sessions begin with.
    var configuration: TLSConfiguration { present.withLock { $0 } }
}

/// One reading of a context's files.
@safe final class TLSConfiguration: @unchecked Sendable {
    // Sendable because the SSL_CTX is complete, and not changed any more, when init returns; OpenSSL counts
    // references to it atomically.
    let handle: OpaquePointer
    let expires: Int64
    let protocols: [[UInt8]]
    let tickets: TLSTickets
    let asksForCertificates: Bool

    // Mozilla's intermediate list without DHE: forward secrecy and AEAD only.
    private static let ciphers =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        + "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
    private static let suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    private static let groups = "X25519:P-256:P-384"
    /// A client's certificate with its chain.
    private static let clientCertificateBytesMax = 32_768

    init(_ settings: TLSContext.Settings, _ tickets: TLSTickets) throws(HTTPError) {
        guard let context = unsafe SSL_CTX_new(TLS_server_method()) else {
            throw .system(call: "SSL_CTX_new", errno: 0)
        }
        unsafe handle = context
        self.tickets = tickets
        protocols = settings.protocols.map { Array($0.utf8) }
        asksForCertificates = settings.clientAuthentication != .none
        do throws(HTTPError) {
            expires = try unsafe Self.fill(context, settings)
        } catch {
            unsafe SSL_CTX_free(context)
            throw error
        }
        // SAFETY: callbacks find this object in the context. It outlives every session, as sessions keep it,
        // and the context cannot be used without a session.
        unsafe SSL_CTX_set_ex_data(context, 0, Unmanaged.passUnretained(self).toOpaque())
        unsafe SSL_CTX_set_alpn_select_cb(context, Self.selectProtocol, nil)
        unsafe SSL_CTX_set_info_callback(context, TLSSession.countMessage)
        if tickets.interval > 0 {
            unsafe SSL_CTX_set_tlsext_ticket_key_evp_cb(context, Self.useTicketKey)
            // A ticket may be opened for at least one interval after it was sealed.
            let seconds = Int(clamping: max(1, tickets.interval / 1_000_000_000))
            _ = unsafe SSL_CTX_set_timeout(context, seconds)
        } else {
            unsafe COpenSSL_turn_tickets_off(context)
        }
    }

    deinit { unsafe SSL_CTX_free(handle) }

    static func randomBytes(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        // SAFETY: RAND_bytes writes `count` bytes, the size of the array.
        let status = unsafe bytes.withUnsafeMutableBufferPointer {
            unsafe RAND_bytes($0.baseAddress, Int32(clamping: count))
        }
        precondition(status == 1, "OpenSSL has no random bytes")
        return bytes
    }

    // MARK: - Files

    /// Sets everything that comes from the settings; returns when the first certificate expires.
    private static func fill(_ context: OpaquePointer, _ settings: TLSContext.Settings) throws(HTTPError)
        -> Int64
    {
        ERR_clear_error()
        let minimum = settings.minimumVersion == .v12 ? TLS1_2_VERSION : TLS1_3_VERSION
        // SAFETY: every call reads its strings before it returns.
        guard unsafe COpenSSL_harden(context, minimum) == 1,
            unsafe SSL_CTX_set_cipher_list(context, ciphers) == 1,
            unsafe SSL_CTX_set_ciphersuites(context, suites) == 1,
            unsafe COpenSSL_set_groups(context, groups) == 1
        else { throw .system(call: "SSL_CTX_set_cipher_list", errno: 0) }
        unsafe SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in -1 }
        var expires = Int64.max
        var kinds: [Int32] = []
        for identity in settings.identities {
            let (kind, end) = try unsafe use(identity, context)
            guard !kinds.contains(kind) else {
                throw .tls(
                    file: identity.certificateFile, reason: "another certificate has a key of its kind")
            }
            kinds.append(kind)
            expires = min(expires, end)
        }
        guard !kinds.isEmpty else { throw .tls(file: "", reason: "no certificate is named") }
        try unsafe askClients(context, settings)
        return expires
    }

    /// Takes one certificate and its key; returns the kind of key and when the certificate expires.
    private static func use(_ identity: TLSContext.Settings.Identity, _ context: OpaquePointer)
        throws(HTTPError) -> (kind: Int32, expires: Int64)
    {
        let (chain, keyFile) = (identity.certificateFile, identity.keyFile)
        try requireReadable(chain)
        guard unsafe SSL_CTX_use_certificate_chain_file(context, chain) == 1,
            let certificate = unsafe SSL_CTX_get0_certificate(context)
        else { throw refused(chain, "no usable certificate in PEM form") }
        try requireReadable(keyFile)
        // SAFETY: the bio and the key are freed below; the context takes a reference of its own to the key.
        guard let bio = unsafe BIO_new_file(keyFile, "r") else { throw refused(keyFile, "cannot be read") }
        let key = unsafe PEM_read_bio_PrivateKey(bio, nil, { _, _, _, _ in -1 }, nil)
        _ = unsafe BIO_free(bio)
        guard let key = unsafe key else {
            throw refused(keyFile, "no usable private key in PEM form without a passphrase")
        }
        defer { unsafe EVP_PKEY_free(key) }
        guard unsafe X509_check_private_key(certificate, key) == 1 else {
            ERR_clear_error()
            throw .tls(file: keyFile, reason: "the key is not that of \(chain)")
        }
        guard unsafe SSL_CTX_use_PrivateKey(context, key) == 1 else { throw refused(keyFile, "refused") }
        return (
            unsafe EVP_PKEY_get_base_id(key), unsafe unixSeconds(X509_get0_notAfter(certificate)) ?? .max
        )
    }

    private static func askClients(_ context: OpaquePointer, _ settings: TLSContext.Settings)
        throws(HTTPError)
    {
        guard settings.clientAuthentication != .none else { return }
        guard let file = settings.clientAuthorityFile else {
            throw .tls(file: "", reason: "client certificates need the file of their authorities")
        }
        try requireReadable(file)
        guard unsafe SSL_CTX_load_verify_file(context, file) == 1,
            let names = unsafe SSL_load_client_CA_file(file)
        else { throw refused(file, "no usable certificate in PEM form") }
        // SAFETY: the context owns the list of names from here on.
        unsafe SSL_CTX_set_client_CA_list(context, names)
        let isRequired = settings.clientAuthentication == .required
        unsafe SSL_CTX_set_verify(
            context, SSL_VERIFY_PEER | (isRequired ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nil)
        unsafe COpenSSL_set_certificate_bytes_max(context, clientCertificateBytesMax)
        // A session counts only where the same is asked of clients: a changed list of authorities ends the
        // tickets made under the old one.
        let rule = try digest(ofFile: file) + [isRequired ? 1 : 0]
        let identifier = Array(rule.suffix(Int(SSL_MAX_SID_CTX_LENGTH)))
        let status = unsafe identifier.withUnsafeBufferPointer {
            unsafe SSL_CTX_set_session_id_context(context, $0.baseAddress, UInt32($0.count))
        }
        guard status == 1 else { throw refused(file, "refused") }
    }

    /// - Throws: why the file cannot be opened, in the system's words.
    private static func requireReadable(_ file: String) throws(HTTPError) {
        ERR_clear_error()
        guard let bio = unsafe BIO_new_file(file, "r") else { throw refused(file, "cannot be read") }
        _ = unsafe BIO_free(bio)
    }

    private static func digest(ofFile file: String) throws(HTTPError) -> [UInt8] {
        guard let bio = unsafe BIO_new_file(file, "r"), let context = unsafe EVP_MD_CTX_new() else {
            throw refused(file, "cannot be read")
        }
        defer {
            _ = unsafe BIO_free(bio)
            unsafe EVP_MD_CTX_free(context)
        }
        var isGood = unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1
        var piece = [UInt8](repeating: 0, count: 65_536)
        var digest = [UInt8](repeating: 0, count: 32)
        // SAFETY: both calls stay within the arrays, whose sizes they are given or, for SHA-256, know.
        while true {
            let count = unsafe piece.withUnsafeMutableBytes {
                unsafe BIO_read(bio, $0.baseAddress, Int32($0.count))
            }
            guard count > 0 else { break }
            let status = unsafe piece.withUnsafeBytes {
                unsafe EVP_DigestUpdate(context, $0.baseAddress, Int(count))
            }
            isGood = isGood && status == 1
        }
        let status = unsafe digest.withUnsafeMutableBufferPointer {
            unsafe EVP_DigestFinal_ex(context, $0.baseAddress, nil)
        }
        guard isGood, status == 1 else { throw refused(file, "cannot be read") }
        return digest
    }

    /// `what` with OpenSSL's or the system's reason.
    private static func refused(_ file: String, _ what: String) -> HTTPError {
        // The first error is nearest to the cause.
        let code = ERR_get_error()
        defer { ERR_clear_error() }
        guard code != 0 else { return .tls(file: file, reason: what) }
        if COpenSSL_error_library(code) == ERR_LIB_SYS {
            return .tls(file: file, reason: IOError.text(COpenSSL_error_reason(code)))
        }
        guard let text = unsafe ERR_reason_error_string(code) else { return .tls(file: file, reason: what) }
        return .tls(file: file, reason: "\(what): \(unsafe String(cString: text))")
    }

    /// Unix seconds of `time`.
    static func unixSeconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64? {
        guard let epoch = unsafe ASN1_TIME_set(nil, 0) else { return nil }
        defer { unsafe ASN1_TIME_free(epoch) }
        var (days, seconds): (Int32, Int32) = (0, 0)
        guard unsafe ASN1_TIME_diff(&days, &seconds, epoch, time) == 1 else { return nil }
        return Int64(days) * 86_400 + Int64(seconds)
    }

    // MARK: - Callbacks

    /// The object behind the context that `session` began with.
    private static func of(_ session: OpaquePointer?) -> TLSConfiguration? {
        // SAFETY: init put the object there, and the session keeps it.
        guard let context = unsafe SSL_get_SSL_CTX(session),
            let place = unsafe SSL_CTX_get_ex_data(context, 0)
        else { return nil }
        return unsafe Unmanaged<TLSConfiguration>.fromOpaque(place).takeUnretainedValue()
    }

    /// The first of our protocols that the client offers; a fatal alert when it offers none of them.
    private static let selectProtocol: SSL_CTX_alpn_select_cb_func = {
        session, chosen, chosenCount, offered, offeredCount, _ in
        guard let protocols = unsafe of(session)?.protocols, let offered = unsafe offered else {
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }
        let list = unsafe UnsafeBufferPointer(start: offered, count: Int(offeredCount))
        for wanted in protocols {
            var start = 0
            while start < list.count {
                let count = Int(unsafe list[start])
                guard start + 1 + count <= list.count else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                let name = unsafe list[(start + 1)..<(start + 1 + count)]
                if unsafe count > 0 && name.elementsEqual(wanted) {
                    // SAFETY: OpenSSL copies the name out of the client's list when this returns.
                    unsafe chosen?.pointee = offered + start + 1
                    unsafe chosenCount?.pointee = UInt8(count)
                    return SSL_TLSEXT_ERR_OK
                }
                start += 1 + count
            }
        }
        return SSL_TLSEXT_ERR_ALERT_FATAL
    }

    /// Gives OpenSSL the key for a ticket: 1 done, 2 done and make a new ticket, 0 unknown key, -1 failed.
    private static let useTicketKey:
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, OpaquePointer?,
            OpaquePointer?, Int32
        ) -> Int32 = { session, name, vector, cipher, mac, seals in
            guard let tickets = unsafe of(session)?.tickets, let name = unsafe name,
                let vector = unsafe vector
            else { return -1 }
            // SAFETY: OpenSSL gives room for 16 bytes of name and EVP_MAX_IV_LENGTH, 16, of vector.
            let nameBytes = unsafe UnsafeMutableBufferPointer(start: name, count: 16)
            if seals == 1 {
                let key = tickets.sealing()
                _ = unsafe nameBytes.update(fromContentsOf: key.name)
                guard unsafe RAND_bytes(vector, 16) == 1 else { return -1 }
                let status = unsafe COpenSSL_use_ticket_key(cipher, mac, key.cipherKey, key.macKey, vector, 1)
                return status == 1 ? 1 : -1
            }
            guard let (key, isOld) = unsafe tickets.opening(name: Array(nameBytes)) else { return 0 }
            guard unsafe COpenSSL_use_ticket_key(cipher, mac, key.cipherKey, key.macKey, vector, 0) == 1
            else {
                return -1
            }
            return isOld ? 2 : 1
        }
}
