internal import COpenSSL

/// Why a handshake, or a session, came to nothing; as counters name it.
public enum TLSFailure: String, Sendable, CaseIterable {
    /// No version, cipher or group is known to both sides.
    case version, cipher
    /// The client offers protocols, and none of ours.
    case alpn
    /// The client's certificate is missing, or not valid.
    case certificate
    /// The client sent an alert, such as about our certificate.
    case alert
    /// What came is not TLS as it must be.
    case protocolError = "protocol"
    /// Plain HTTP came.
    case plain
    /// The handshake took too long.
    case timeout
    /// Too many bytes or messages, or too many handshakes at once.
    case limit
    /// The client left before the handshake was done.
    case gone
}

/// The server's side of one TLS connection, without I/O: ciphertext in, plaintext out, and back.
///
/// Between calls it holds at most one record that is not complete.
@safe struct TLSSession: ~Copyable {
    enum State: Equatable {
        case handshaking
        case open
        /// The client has sent its close_notify, and may still read.
        case ended
        /// Nothing more can be read or written; an alert for the client is in the output.
        case failed(TLSFailure)
    }

    /// What a handshake has agreed on.
    struct Agreement {
        var version: TLSContext.Settings.Version
        var isResumed: Bool
        /// The protocol by ALPN; nil when the client offered none.
        var applicationProtocol: String?
        var clientCertificate: ClientCertificate?
    }

    /// What one call reads and writes; the BIO finds it while the call lasts.
    @unsafe private struct Wire {
        var input: UnsafeRawBufferPointer
        var output: [UInt8]
        var messageCount: Int
    }

    /// Handshake messages and alerts of both sides over the whole life: a handshake takes about 20, each
    /// change of keys a few; more is an attack on the processor.
    static let messagesMax = 200

    private let handle: OpaquePointer
    /// Owned by `handle`.
    private let bio: OpaquePointer
    /// Keeps what the callbacks look at.
    private let configuration: TLSConfiguration
    private var messageCount = 0
    private(set) var state = State.handshaking
    /// Set when the handshake is done.
    private(set) var agreement: Agreement?

    /// A session that waits for its client; nil without memory.
    init?(_ configuration: TLSConfiguration) {
        // SAFETY: both are freed here when this fails, otherwise deinit frees the session and with it the
        // BIO, of which SSL_set_bio takes the one reference.
        guard let handle = unsafe SSL_new(configuration.handle) else { return nil }
        guard let bio = unsafe BIO_new(Self.method.pointer) else {
            unsafe SSL_free(handle)
            return nil
        }
        unsafe BIO_set_init(bio, 1)
        unsafe SSL_set_bio(handle, bio, bio)
        unsafe SSL_set_accept_state(handle)
        unsafe self.handle = handle
        unsafe self.bio = bio
        self.configuration = configuration
    }

    deinit { unsafe SSL_free(handle) }

    /// Takes all of `ciphertext`; fills `plaintext` from its start and appends what the client must get to
    /// `output`. Returns the bytes of plaintext, and sets `state`.
    ///
    /// `plaintext` has room for the ciphertext and one record more.
    mutating func receive(
        _ ciphertext: Span<UInt8>, into plaintext: inout [UInt8], output: inout [UInt8]
    ) -> Int {
        guard state == .open || state == .handshaking else { return 0 }
        var filled = 0
        var (code, status): (Int32, Int32) = (SSL_ERROR_NONE, 0)
        let (handle, isOpen) = unsafe (self.handle, state == .open)
        // SAFETY: OpenSSL reads the input, and writes to the rest of the plaintext, only during the calls.
        unsafe ciphertext.withUnsafeBytes { input in
            unsafe plaintext.withUnsafeMutableBytes { target in
                guard let base = target.baseAddress else { return }
                unsafe Self.call(bio, reading: input, writing: &output, &messageCount) {
                    if !isOpen {
                        status = unsafe SSL_do_handshake(handle)
                        code = unsafe SSL_get_error(handle, status)
                        if code != SSL_ERROR_NONE { return }
                    }
                    repeat {
                        var count = 0
                        status = unsafe SSL_read_ex(handle, base + filled, target.count - filled, &count)
                        code = unsafe SSL_get_error(handle, status)
                        if code == SSL_ERROR_NONE { filled += count }
                    } while code == SSL_ERROR_NONE && filled < target.count
                }
            }
        }
        if !isOpen, unsafe SSL_is_init_finished(handle) == 1 { agree() }
        switch code {
        // Without an error the plaintext had too little room.
        case SSL_ERROR_WANT_READ: if messageCount > Self.messagesMax { state = .failed(.limit) }
        case SSL_ERROR_ZERO_RETURN: state = .ended
        case SSL_ERROR_NONE: state = .failed(.limit)
        default: state = .failed(Self.failure())
        }
        return filled
    }

    /// Appends `plaintext` as records to `output`; not before the handshake is done.
    mutating func send(_ plaintext: Span<UInt8>, output: inout [UInt8]) {
        guard state == .open || state == .ended, plaintext.count > 0 else { return }
        var status: Int32 = 0
        let handle = unsafe self.handle
        // SAFETY: OpenSSL reads the plaintext only during the call.
        unsafe plaintext.withUnsafeBytes { source in
            let none = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
            unsafe Self.call(bio, reading: none, writing: &output, &messageCount) {
                var count = 0
                status = unsafe SSL_write_ex(handle, source.baseAddress, source.count, &count)
            }
        }
        if status != 1 { state = .failed(Self.failure()) }
    }

    /// Appends the server's close_notify to `output`: nothing is sent after it.
    mutating func close(output: inout [UInt8]) {
        guard state == .open || state == .ended else { return }
        let handle = unsafe self.handle
        let none = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
        unsafe Self.call(bio, reading: none, writing: &output, &messageCount) {
            _ = unsafe SSL_shutdown(handle)
        }
        ERR_clear_error()
        state = .failed(.gone)
    }

    // MARK: - Calls

    /// Runs `body`, in which OpenSSL reads from `input` and appends to `output`.
    @unsafe private static func call(
        _ bio: OpaquePointer, reading input: UnsafeRawBufferPointer, writing output: inout [UInt8],
        _ messageCount: inout Int, _ body: () -> Void
    ) {
        var wire = unsafe Wire(input: input, output: [], messageCount: messageCount)
        unsafe swap(&wire.output, &output)
        ERR_clear_error()
        unsafe withUnsafeMutablePointer(to: &wire) { pointer in
            unsafe BIO_set_data(bio, pointer)
            body()
            unsafe BIO_set_data(bio, nil)
        }
        unsafe swap(&wire.output, &output)
        unsafe messageCount = wire.messageCount
    }

    private mutating func agree() {
        state = .open
        // SAFETY: OpenSSL keeps the name while the session lasts; it is copied here.
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        unsafe SSL_get0_alpn_selected(handle, &name, &count)
        let chosen = unsafe UnsafeBufferPointer(start: name, count: Int(count))
        agreement = unsafe Agreement(
            version: SSL_version(handle) == TLS1_3_VERSION ? .v13 : .v12,
            isResumed: SSL_session_reused(handle) == 1,
            applicationProtocol: chosen.isEmpty ? nil : String(decoding: chosen, as: UTF8.self),
            clientCertificate: configuration.asksForCertificates ? clientCertificate() : nil)
    }

    /// What OpenSSL's error means.
    private static func failure() -> TLSFailure {
        // The last one of libssl: before it may stand what its helpers found, behind it nothing of interest.
        var reason: Int32 = 0
        while case let code = ERR_get_error(), code != 0 {
            if COpenSSL_error_library(code) == ERR_LIB_SSL { reason = COpenSSL_error_reason(code) }
        }
        // From 1,000 on a reason is an alert of the client.
        switch reason {
        case 1000...: return .alert
        case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_UNKNOWN_PROTOCOL,
            SSL_R_WRONG_SSL_VERSION:
            return .version
        case SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SHARED_GROUPS, SSL_R_NO_SUITABLE_KEY_SHARE,
            SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
            return .cipher
        case SSL_R_NO_APPLICATION_PROTOCOL: return .alpn
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, SSL_R_CERTIFICATE_VERIFY_FAILED: return .certificate
        default: return .protocolError
        }
    }

    // MARK: - What OpenSSL calls

    /// A BIO that reads and writes the `Wire` of the call it is in.
    @safe private struct Method: @unchecked Sendable {
        // Sendable because it is complete, and not changed any more, when init returns.
        let pointer: OpaquePointer?

        init() {
            unsafe pointer = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire")
            unsafe BIO_meth_set_read(pointer, TLSSession.read)
            unsafe BIO_meth_set_write(pointer, TLSSession.write)
            unsafe BIO_meth_set_ctrl(pointer) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        }
    }

    private static let method = Method()

    @unsafe private static func wire(_ bio: OpaquePointer?) -> UnsafeMutablePointer<Wire>? {
        // SAFETY: `call` puts the pointer there, and takes it away before the Wire ends.
        unsafe BIO_get_data(bio)?.assumingMemoryBound(to: Wire.self)
    }

    private static let read: @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int32) -> Int32 = {
        bio, target, count in
        unsafe COpenSSL_clear_retry(bio)
        guard let wire = unsafe wire(bio), let target = unsafe target, count > 0,
            unsafe wire.pointee.messageCount <= messagesMax,
            unsafe !wire.pointee.input.isEmpty, let source = unsafe wire.pointee.input.baseAddress
        else {
            unsafe COpenSSL_set_retry_read(bio)
            return -1
        }
        let taken = unsafe min(Int(count), wire.pointee.input.count)
        // SAFETY: OpenSSL gives room for `count` bytes, and the input has `taken`.
        unsafe UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: taken)
        unsafe wire.pointee.input = UnsafeRawBufferPointer(rebasing: wire.pointee.input.dropFirst(taken))
        return Int32(taken)
    }

    private static let write: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int32) -> Int32 = {
        bio, source, count in
        guard let wire = unsafe wire(bio), let source = unsafe source, count > 0 else { return -1 }
        // SAFETY: OpenSSL gives `count` bytes.
        let bytes = unsafe UnsafeRawBufferPointer(start: source, count: Int(count))
        unsafe wire.pointee.output.append(contentsOf: bytes)
        return count
    }

    /// Counts the handshake's messages and alerts of a session.
    static let countMessage: @convention(c) (OpaquePointer?, Int32, Int32) -> Void = { session, kind, _ in
        guard kind & (SSL_CB_LOOP | SSL_CB_ALERT) != 0, let wire = unsafe wire(SSL_get_rbio(session)) else {
            return
        }
        unsafe wire.pointee.messageCount += 1
    }

    // MARK: - The client's certificate

    private static let alternativeNamesMax = 64

    private func clientCertificate() -> ClientCertificate? {
        // SAFETY: the session owns the certificate; everything is copied out of it here.
        guard let certificate = unsafe SSL_get0_peer_certificate(handle),
            unsafe SSL_get_verify_result(handle) == Int(X509_V_OK)
        else { return nil }
        var digest = [UInt8](repeating: 0, count: 32)
        let status = unsafe digest.withUnsafeMutableBufferPointer {
            unsafe X509_digest(certificate, EVP_sha256(), $0.baseAddress, nil)
        }
        guard status == 1,
            let expires = unsafe TLSConfiguration.unixSeconds(X509_get0_notAfter(certificate))
        else { return nil }
        return unsafe ClientCertificate(
            sha256: digest, commonName: Self.commonName(certificate),
            alternativeNames: Self.alternativeNames(certificate), expires: expires)
    }

    @unsafe private static func commonName(_ certificate: OpaquePointer) -> String? {
        let subject = unsafe X509_get_subject_name(certificate)
        let place = unsafe X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
        guard place >= 0, unsafe X509_NAME_get_index_by_NID(subject, NID_commonName, place) < 0 else {
            return nil
        }
        let value = unsafe X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, place))
        var bytes: UnsafeMutablePointer<UInt8>?
        let count = unsafe ASN1_STRING_to_UTF8(&bytes, value)
        defer { unsafe CRYPTO_free(bytes, nil, 0) }
        guard count > 0, let bytes = unsafe bytes else { return nil }
        return unsafe text(UnsafeBufferPointer(start: bytes, count: Int(count)))
    }

    @unsafe private static func alternativeNames(_ certificate: OpaquePointer) -> [String] {
        guard let names = unsafe COpenSSL_alternative_names(certificate) else { return [] }
        defer { unsafe GENERAL_NAMES_free(names) }
        var list: [String] = []
        for index in 0..<min(unsafe COpenSSL_name_count(names), Int32(alternativeNamesMax)) {
            var (kind, count): (Int32, Int32) = (0, 0)
            guard let bytes = unsafe COpenSSL_name(names, index, &kind, &count),
                let text = unsafe text(UnsafeBufferPointer(start: bytes, count: Int(count)))
            else { continue }
            list.append((kind == GEN_DNS ? "DNS:" : kind == GEN_EMAIL ? "email:" : "URI:") + text)
        }
        return list
    }

    /// Text without control characters; nil for anything else, as a name with a hidden end.
    @unsafe private static func text(_ bytes: UnsafeBufferPointer<UInt8>) -> String? {
        guard unsafe bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return nil }
        return unsafe String(validating: bytes, as: UTF8.self)
    }
}
