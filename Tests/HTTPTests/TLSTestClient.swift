import COpenSSL

/// The client's side of a TLS connection in memory, by OpenSSL itself.
@safe final class TLSTestClient {
    struct Options {
        var protocols: [String] = []
        var maximum: Int32 = TLS1_3_VERSION
        var minimum: Int32 = TLS1_2_VERSION
        var ciphers: String?
        var identity: (certificate: String, key: String)?
        var authority: String?
        /// A session of an earlier client, by `TLSTestClient.session`.
        var session: Session?
    }

    /// A session to resume; freed with its last reference.
    @safe final class Session {
        let handle: OpaquePointer
        init(_ handle: OpaquePointer) { unsafe self.handle = handle }
        deinit { unsafe SSL_SESSION_free(handle) }
    }

    private let context: OpaquePointer
    let handle: OpaquePointer
    private let input: OpaquePointer
    private let output: OpaquePointer
    private(set) var failed = false
    private(set) var isClosed = false
    private(set) var received: [UInt8] = []

    init(_ options: Options = Options()) {
        unsafe context = SSL_CTX_new(TLS_client_method())
        if let file = options.authority {
            unsafe SSL_CTX_load_verify_file(context, file)
            unsafe SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        }
        // Older versions are refused by the server, not by this side's own rules.
        unsafe SSL_CTX_set_security_level(context, 0)
        _ = unsafe SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(options.minimum), nil)
        _ = unsafe SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(options.maximum), nil)
        if let ciphers = options.ciphers { unsafe SSL_CTX_set_cipher_list(context, ciphers) }
        if let identity = options.identity {
            unsafe SSL_CTX_use_certificate_chain_file(context, identity.certificate)
            unsafe SSL_CTX_use_PrivateKey_file(context, identity.key, SSL_FILETYPE_PEM)
        }
        unsafe handle = SSL_new(context)
        if !options.protocols.isEmpty {
            let list = options.protocols.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
            unsafe SSL_set_alpn_protos(handle, list, UInt32(list.count))
        }
        if let session = options.session { unsafe SSL_set_session(handle, session.handle) }
        unsafe input = BIO_new(BIO_s_mem())
        unsafe output = BIO_new(BIO_s_mem())
        unsafe SSL_set_bio(handle, input, output)
        unsafe SSL_set_connect_state(handle)
    }

    deinit {
        // A session that was not closed could not be resumed.
        unsafe SSL_set_shutdown(handle, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        unsafe SSL_free(handle)
        unsafe SSL_CTX_free(context)
    }

    var isDone: Bool { unsafe SSL_is_init_finished(handle) == 1 }
    var isResumed: Bool { unsafe SSL_session_reused(handle) == 1 }
    var version: Int32 { unsafe SSL_version(handle) }
    var session: Session { unsafe Session(SSL_get1_session(handle)) }
    var cipher: String { unsafe String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(handle))) }
    /// The algorithm of the server's key.
    var serverKeyKind: Int32 {
        unsafe EVP_PKEY_get_base_id(X509_get0_pubkey(SSL_get0_peer_certificate(handle)))
    }

    /// The serial number of the server's certificate.
    var serverSerial: Int {
        unsafe ASN1_INTEGER_get(X509_get_serialNumber(SSL_get0_peer_certificate(handle)))
    }

    /// Goes on with what the server has sent; returns what is to be sent to it.
    func advance(_ bytes: [UInt8] = []) -> [UInt8] {
        if !bytes.isEmpty { _ = unsafe BIO_write(input, bytes, Int32(bytes.count)) }
        ERR_clear_error()
        var status: Int32 = 1
        if !isDone { status = unsafe SSL_do_handshake(handle) }
        while status == 1 {
            var piece = [UInt8](repeating: 0, count: 16_384)
            var count = 0
            status = unsafe SSL_read_ex(handle, &piece, piece.count, &count)
            received += piece.prefix(count)
        }
        switch unsafe SSL_get_error(handle, status) {
        case SSL_ERROR_WANT_READ: break
        case SSL_ERROR_ZERO_RETURN: isClosed = true
        default: failed = true
        }
        return takeOutput()
    }

    /// The records of `text`.
    func seal(_ text: [UInt8]) -> [UInt8] {
        var count = 0
        unsafe SSL_write_ex(handle, text, text.count, &count)
        return takeOutput()
    }

    func close() -> [UInt8] {
        unsafe SSL_shutdown(handle)
        return takeOutput()
    }

    /// A change of the sending key.
    func updateKey() -> [UInt8] {
        unsafe SSL_key_update(handle, SSL_KEY_UPDATE_NOT_REQUESTED)
        unsafe SSL_do_handshake(handle)
        return takeOutput()
    }

    func renegotiate() -> [UInt8] {
        unsafe SSL_renegotiate(handle)
        unsafe SSL_do_handshake(handle)
        return takeOutput()
    }

    func takeOutput() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(unsafe BIO_ctrl_pending(output)))
        if !bytes.isEmpty { _ = unsafe BIO_read(output, &bytes, Int32(bytes.count)) }
        return bytes
    }
}
