extension Configuration.Tunable {
    /// The TLS listener and its certificates.
    static let tls: [Configuration.Tunable] = [
        .init(
            name: "tls_port", domain: .integer(default: -1, range: -1...65535, unit: ""),
            why: "TCP port for TLS, on the same host; -1 for none, 0 picks a free one and prints it"),
        .init(
            name: "tls_certificate_file", domain: .text(""),
            why: "PEM file of the certificate, then its intermediates; two kinds of key: two files, with :"),
        .init(
            name: "tls_key_file", domain: .text(""),
            why: "PEM file of the private key without a passphrase, or two in the same order"),
        .init(
            name: "tls_min_version", domain: .choice(default: "1.2", of: ["1.2", "1.3"]),
            why: "oldest version of TLS that is spoken"),
        .init(
            name: "tls_client_auth", domain: .choice(default: "none", of: ["none", "optional", "required"]),
            why: "whether clients show a certificate; one that is shown must be valid"),
        .init(
            name: "tls_client_ca_file", domain: .text(""),
            why: "PEM file of the authorities of client certificates"),
        .init(
            name: "tls_ticket_rotation_s", domain: .integer(default: 3600, range: 0...604_800, unit: "s"),
            why: "for which a key seals session tickets, and then opens them as long; 0 for no tickets"),
        .init(
            name: "tls_handshake_timeout_ms",
            domain: .integer(default: 10_000, range: 10...600_000, unit: "ms"),
            why: "from the connection to the end of its handshake; beyond it the connection is cut"),
    ]
}
