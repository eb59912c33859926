import HTTP

extension MetricsReport {
    /// What TLS listeners do; nothing without one.
    func writeTLS(_ writer: inout MetricsWriter) {
        guard let certificates, let tls = counters?.tls else { return }
        func count(_ value: Int?) -> UInt64 { UInt64(clamping: value ?? 0) }
        writer.counter(
            "recserver_tls_handshakes", "TLS handshakes completed, by version.",
            TLSContext.Settings.Version.allCases.map {
                ("version=\"\($0.rawValue)\"", count(tls.handshakes[$0]))
            })
        writer.counter(
            "recserver_tls_resumptions", "TLS handshakes that went on from a ticket.",
            [("", count(tls.resumptions))])
        writer.counter(
            "recserver_tls_failures", "TLS handshakes and sessions that failed, by reason.",
            TLSFailure.allCases.map { ("reason=\"\($0.rawValue)\"", count(tls.failures[$0])) })
        writer.gauge(
            "recserver_tls_certificate_days", "Days until the first certificate in use expires.",
            [("", certificates.remainingDays)])
        writer.counter(
            "recserver_tls_reloads", "Readings of the certificates on SIGHUP, by how they ended.",
            [
                ("result=\"loaded\"", certificates.reloads.value),
                ("result=\"refused\"", certificates.refusedReloads.value),
            ])
    }
}
