import HTTP

// What `/metrics` shows of HTTP/2.
extension MetricsReport {
    func writeHTTP2(_ writer: inout MetricsWriter) {
        guard let counters = counters?.http2 else { return }
        func count(_ value: Int) -> UInt64 { UInt64(clamping: value) }
        writer.counter(
            "recserver_http2_connections", "Connections that spoke HTTP/2.",
            [("", count(counters.connections))])
        writer.counter(
            "recserver_http2_requests", "Requests that came in HTTP/2.", [("", count(counters.requests))])
        writer.counter(
            "recserver_http2_streams_lost",
            "HTTP/2 streams that ended without their answer, by who ended them.",
            [
                ("cause=\"cancelled\"", count(counters.streamsCancelled)),
                ("cause=\"reset\"", count(counters.streamsReset)),
                ("cause=\"refused\"", count(counters.streamsRefused)),
            ])
        writer.counter(
            "recserver_http2_endings", "HTTP/2 connections ended by GOAWAY with an error, by reason.",
            HTTP2Ending.allCases.map { ("reason=\"\($0.rawValue)\"", count(counters.endings[$0] ?? 0)) })
    }
}
