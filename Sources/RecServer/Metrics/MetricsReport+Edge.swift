import HTTP

extension MetricsReport {
    /// What happens at the edge: who is let in, for whom proxies speak, what is compressed.
    func writeEdge(_ writer: inout MetricsWriter) {
        if let counters {
            func count(_ value: Int) -> UInt64 { UInt64(clamping: value) }
            writer.counter(
                "recserver_connections_refused_by_address",
                "Connections of those refused, because their address had too many.",
                [("", count(counters.connectionsRefusedByAddress))])
            writer.counter(
                "recserver_connections_displaced", "Idle connections closed to make place for others.",
                [("", count(counters.connectionsDisplaced))])
            writer.counter(
                "recserver_proxy_headers_refused",
                "Connections closed for a PROXY header that was wrong, missing, or from somebody not listed.",
                [("", count(counters.proxyHeadersRefused))])
        }
        if let compression = service.edge.compression {
            writer.counter(
                "recserver_compressed_bytes", "Bytes of answers that were compressed, before and after.",
                [
                    ("side=\"before\"", compression.bytesBefore.value),
                    ("side=\"after\"", compression.bytesAfter.value),
                ])
        }
    }
}
