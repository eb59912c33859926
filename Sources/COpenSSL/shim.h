#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

// What OpenSSL has as macros, which Swift does not import. The callers own and free as OpenSSL says.

// MARK: - Contexts

/// TLS from `minimum` on, no renegotiation, no compression, no session kept in memory; buffers only while
/// they hold something.
static inline int COpenSSL_harden(SSL_CTX *context, int minimum) {
    // The server's order counts, except that a client which prefers ChaCha20, as it computes AES slowly, gets it.
    SSL_CTX_set_options(
        context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE
                     | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_clear_options(context, SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1);
    return SSL_CTX_set_min_proto_version(context, minimum) == 1
           && SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1;
}

static inline int COpenSSL_set_groups(SSL_CTX *context, const char *list) {
    return (int)SSL_CTX_set1_groups_list(context, list);
}

static inline void COpenSSL_set_certificate_bytes_max(SSL_CTX *context, long bytes) {
    SSL_CTX_set_max_cert_list(context, bytes);
}

static inline void COpenSSL_turn_tickets_off(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
}

/// Prepares the sealing (1) or opening (0) of a session ticket: AES-256-CBC, HMAC-SHA256; 1 when it worked.
static inline int COpenSSL_use_ticket_key(
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, const unsigned char *cipher_key, const unsigned char *mac_key,
    const unsigned char *vector, int seals) {
    OSSL_PARAM parameters[3] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)mac_key, 32),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, parameters) == 1
           && EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, cipher_key, vector, seals) == 1;
}

// MARK: - Sessions

static inline void COpenSSL_set_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void COpenSSL_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }

/// The library and the reason of an error code; for the system's errors the reason is errno.
static inline int COpenSSL_error_library(unsigned long code) { return ERR_GET_LIB(code); }
static inline int COpenSSL_error_reason(unsigned long code) { return ERR_GET_REASON(code); }

// MARK: - Certificates

/// Names of X509_get_ext_d2i(NID_subject_alt_name).
static inline GENERAL_NAMES *COpenSSL_alternative_names(const X509 *certificate) {
    return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}
static inline int COpenSSL_name_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }

/// The bytes of name `index` where its `kind` is GEN_EMAIL, GEN_DNS or GEN_URI; otherwise NULL.
static inline const unsigned char *COpenSSL_name(
    const GENERAL_NAMES *names, int index, int *kind, int *count) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
    const ASN1_IA5STRING *text;
    switch (name->type) {
    case GEN_EMAIL: text = name->d.rfc822Name; break;
    case GEN_DNS: text = name->d.dNSName; break;
    case GEN_URI: text = name->d.uniformResourceIdentifier; break;
    default: return NULL;
    }
    *kind = name->type;
    *count = ASN1_STRING_length(text);
    return ASN1_STRING_get0_data(text);
}
