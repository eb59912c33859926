// What became of what is written down.
extension MetricsReport {
    func writeLogs(_ writer: inout MetricsWriter) {
        writer.counter(
            "recserver_upgrades_failed", "Upgrades after which the old process went on.",
            [("", service.metrics.upgradesFailed.value)])
        if let log = service.accessLog?.writer {
            writer.counter(
                "recserver_access_log_lines", "Lines of the access log, by what became of them.",
                [("result=\"written\"", log.written.value), ("result=\"dropped\"", log.dropped.value)])
            writer.counter(
                "recserver_access_log_errors", "Attempts to write the access log that failed.",
                [("", log.errors.value)])
        }
        if let spans = service.spans?.writer {
            writer.counter(
                "recserver_spans", "Requests whose spans were for the collector, by what became of them.",
                [("result=\"sent\"", spans.written.value), ("result=\"dropped\"", spans.dropped.value)])
            writer.counter(
                "recserver_span_errors", "Attempts to send spans that failed.", [("", spans.errors.value)])
        }
    }
}
