/// Writes the Prometheus text format 0.0.4, or OpenMetrics 1.0 when asked for.
struct MetricsWriter {
    private(set) var text = ""
    let isOpenMetrics: Bool

    init(isOpenMetrics: Bool) {
        self.isOpenMetrics = isOpenMetrics
        text.reserveCapacity(64 << 10)
    }

    /// The Content-Type that goes with the text.
    var contentType: String {
        isOpenMetrics
            ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
            : "text/plain; version=0.0.4; charset=utf-8"
    }

    /// A counter family; `name` without `_total`.
    mutating func counter(_ name: String, _ help: String, _ series: [(labels: String, value: UInt64)]) {
        header(isOpenMetrics ? name : name + "_total", "counter", help)
        for one in series { line(name + "_total", one.labels, String(one.value)) }
    }

    /// A counter with a fraction, such as seconds.
    mutating func counter(_ name: String, _ help: String, value: Double) {
        header(isOpenMetrics ? name : name + "_total", "counter", help)
        line(name + "_total", "", Self.number(value))
    }

    mutating func gauge(_ name: String, _ help: String, _ series: [(labels: String, value: Double)]) {
        header(name, "gauge", help)
        for one in series { line(name, one.labels, Self.number(one.value)) }
    }

    mutating func histogram(
        _ name: String, _ help: String, _ series: [(labels: String, histogram: Histogram)]
    ) {
        header(name, "histogram", help)
        for (labels, histogram) in series {
            let (cumulative, sum) = histogram.snapshot
            let separator = labels.isEmpty ? "" : ","
            let examples = isOpenMetrics ? histogram.examples : [:]
            for (index, count) in cumulative.enumerated() {
                let bound = index < histogram.bounds.count ? Self.number(histogram.bounds[index]) : "+Inf"
                line(
                    name + "_bucket", "\(labels)\(separator)le=\"\(bound)\"",
                    String(count) + Self.text(examples[index]))
            }
            line(name + "_sum", labels, Self.number(sum))
            line(name + "_count", labels, String(cumulative.last ?? 0))
        }
    }

    /// An example as OpenMetrics has it behind a bucket's count; its time with milliseconds.
    private static func text(_ example: Histogram.Exemplar?) -> String {
        guard let example else { return "" }
        let time = Double(example.time / 1_000_000) / 1e3
        return " # {trace_id=\"\(example.traceID)\"} \(number(example.value)) \(number(time))"
    }

    mutating func end() { if isOpenMetrics { text += "# EOF\n" } }

    private mutating func header(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    }

    private mutating func line(_ name: String, _ labels: String, _ value: String) {
        text += name
        if !labels.isEmpty { text += "{\(labels)}" }
        text += " \(value)\n"
    }

    static func number(_ value: Double) -> String {
        if let whole = Int64(exactly: value), whole.magnitude < 1 << 53 { return String(whole) }
        return String(value)
    }
}
